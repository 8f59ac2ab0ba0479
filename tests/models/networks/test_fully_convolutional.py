"""The dense form of a VGG: the same network on images of its own size, a map of scores on larger ones."""

import re

import pytest
import torch

from models.inference.fuse import fuse
from models.networks.fully_convolutional import FullyConvolutional
from models.networks.registry import Architecture, build_network
from models.networks.vgg import HEADS, VGG


def vgg(head: str, input_size: int = 64, name: str = "vgg11_bn") -> VGG:
    """A small network in evaluation mode, with statistics that no batch norm starts with."""
    torch.manual_seed(0)
    network = build_network(Architecture(name, 5, input_size=input_size, head=head, width=1 / 16))
    assert isinstance(network, VGG)
    network(torch.randn(8, 3, input_size, input_size))
    return network.eval()


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("input_size", [32, 64, 96])
@torch.inference_mode()
def test_equals_the_network_at_its_own_input_size(head: str, input_size: int) -> None:
    """On images of the network's size the logits are the network's own, within 1e-5."""
    images = torch.randn(4, 3, input_size, input_size)
    expected = vgg(head, input_size)(images)
    assert expected.std() > 0.1
    torch.testing.assert_close(FullyConvolutional(vgg(head, input_size))(images), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("head", ["linear", "paper"])
@torch.inference_mode()
def test_a_score_is_the_head_s_on_one_window(head: str) -> None:
    """Each place of the score map has what the head says of the 2 x 2 features below it; the logits are the mean."""
    images, network = torch.randn(2, 3, 128, 96), vgg(head)
    features = network.features(images)[-1]  # (2, 32, 4, 3)
    expected = torch.empty(2, 5, 3, 2)
    for y in range(3):
        for x in range(2):
            expected[:, :, y, x] = network.head(features[:, :, y : y + 2, x : x + 2])
    dense = FullyConvolutional(network)
    torch.testing.assert_close(dense.scores(images), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(dense(images), expected.mean(dim=(2, 3)), rtol=0, atol=1e-5)


@torch.inference_mode()
def test_the_pooled_head_scores_every_pixel_of_its_map() -> None:
    """With global pooling a window is one pixel of the last map, and the mean is what the network says anyway."""
    images, network = torch.randn(2, 3, 128, 96), vgg("pooled")
    expected = network(images)
    dense = FullyConvolutional(network)
    assert dense.scores(images).shape == (2, 5, 4, 3)
    torch.testing.assert_close(dense(images), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "shape"), [((64, 64), (1, 1)), ((95, 64), (1, 1)), ((96, 70), (2, 1)), ((101, 230), (2, 6))]
)
def test_any_size_from_the_input_size_on_will_do(size: tuple[int, int], shape: tuple[int, int]) -> None:
    """Sides need not be multiples of 32: h = (H - input size) // 32 + 1."""
    assert FullyConvolutional(vgg("paper")).scores(torch.zeros(1, 3, *size)).shape == (1, 5, *shape)


@torch.inference_mode()
def test_a_folded_network_has_a_dense_form_too() -> None:
    """What `fold` made of the three linear layers becomes one convolution."""
    images = torch.randn(2, 3, 96, 96)
    expected = FullyConvolutional(vgg("linear"))(images)
    folded = fuse(vgg("linear"))
    assert isinstance(folded, VGG)
    dense = FullyConvolutional(folded)
    assert len(dense.head) == 1
    torch.testing.assert_close(dense(images), expected, rtol=0, atol=1e-4)


def test_weights_are_not_copied() -> None:
    """The largest kernel is a view of the head's first matrix."""
    network = vgg("paper")
    pointers = {weight.data_ptr() for weight in network.parameters()}
    assert {weight.data_ptr() for weight in FullyConvolutional(network).parameters()} == pointers


def test_dropout_is_off() -> None:
    """A network that comes in training mode is evaluated all the same."""
    dense, images = FullyConvolutional(vgg("paper").train()), torch.randn(1, 3, 64, 64)
    assert torch.equal(dense(images), dense(images))


@pytest.mark.parametrize("size", [(64, 63), (32, 128)])
def test_smaller_images_are_refused(size: tuple[int, int]) -> None:
    """An image with a side below the input size has no window; both sides and the least are named."""
    message = f"images are {size[0]} x {size[1]} pixels, but must be at least 64 each way"
    with pytest.raises(ValueError, match=re.escape(message)):
        FullyConvolutional(vgg("linear"))(torch.zeros(1, 3, *size))
