"""The U-Net: a logit per class for every pixel, from all five maps of a VGG."""

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.networks.registry import NAMES, Architecture, build_network
from models.networks.unet import UNet
from models.networks.vgg import VGG


def encoder(name: str = "vgg11_bn", in_channels: int = 3) -> VGG:
    torch.manual_seed(0)
    network = build_network(Architecture(name, 5, in_channels, input_size=32, width=1 / 16))
    assert isinstance(network, VGG)
    return network


@pytest.mark.parametrize("name", [name for name in NAMES if name != "alexnet"])
def test_every_vgg_will_do(name: str) -> None:
    """On every configuration (N, C, H, W) becomes (N, K, H, W)."""
    assert UNet(encoder(name, in_channels=1), 4)(torch.randn(2, 1, 32, 32)).shape == (2, 4, 32, 32)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 32), (96, 160)])
def test_any_multiple_of_32_will_do(height: int, width: int) -> None:
    """Images need be neither square nor of the encoder's own input size."""
    network = UNet(encoder(), 1).eval()
    assert network(torch.randn(1, 3, height, width)).shape == (1, 1, height, width)


@pytest.mark.parametrize("name", ["vgg11", "vgg16_bn"])
def test_gradients_reach_every_weight(name: str) -> None:
    """The loss has a gradient in every kernel of the encoder and of the decoder, and no parameter is left out."""
    network = UNet(encoder(name), 3)
    F.cross_entropy(network(torch.randn(2, 3, 32, 32)), torch.randint(3, (2, 32, 32))).backward()  # type: ignore[no-untyped-call]
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert not [name for name, gradient in gradients.items() if gradient is None]
    kernels = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(kernels) == len([m for m in network.encoder.modules() if isinstance(m, nn.Conv2d)]) + 4 + 8 + 1
    assert all(kernel.weight.grad is not None and kernel.weight.grad.abs().sum() > 0 for kernel in kernels)


@pytest.mark.parametrize("step", range(4))
def test_each_step_sees_the_encoder_s_map_of_its_size(step: int) -> None:
    """With nothing coming up from below, a step still tells two images apart by the map beside it."""
    network, images = UNet(encoder(), 3).eval(), torch.randn(2, 3, 32, 32)
    up = network.ups[step]
    with torch.no_grad():
        for parameter in up.parameters():
            parameter.zero_()
        for later in network.ups[step + 1 :]:
            later.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
        seen: list[torch.Tensor] = []
        logits = network(images)
    told_by = seen[0] if seen else logits
    assert not torch.allclose(told_by[0], told_by[1])


def test_the_encoder_keeps_its_weights() -> None:
    """The contracting path starts as the VGG that was given, without its head."""
    given = encoder("vgg13_bn")
    before = {name: tensor.clone() for name, tensor in given.state_dict().items() if name.startswith("blocks")}
    after = UNet(given, 2).encoder.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("size", [(32, 40), (16, 32), (0, 32)])
def test_other_sizes_are_refused(size: tuple[int, int]) -> None:
    """A side that is no multiple of 32 is refused, naming both sides."""
    message = f"images are {size[0]} x {size[1]} pixels, but both must be multiples of 32"
    with pytest.raises(ValueError, match=re.escape(message)):
        UNet(encoder(), 2)(torch.zeros(1, 3, *size))


def test_no_classes_are_refused() -> None:
    """There must be at least one class."""
    with pytest.raises(ValueError, match="num_classes is 0, but must be at least 1"):
        UNet(encoder(), 0)
