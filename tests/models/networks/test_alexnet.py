"""AlexNet: torchvision's network from 63 pixels on, a smaller stem below."""

import pytest
import torch
import torchvision

from models.networks.alexnet import AlexNet
from models.networks.registry import Architecture, build_network
from models.networks.vgg import initialise_weights


def test_parameter_count_is_that_published() -> None:
    """At 1000 classes it has 61,100,840 parameters, as torchvision's documentation says."""
    with torch.device("meta"):
        network = build_network(Architecture("alexnet", num_classes=1000))
    assert sum(parameter.numel() for parameter in network.parameters()) == 61_100_840


def test_equals_torchvision_with_the_same_weights() -> None:
    """With the same weights it is torchvision's function, at its own size and at others."""
    torch.manual_seed(0)
    with torch.device("meta"):
        theirs, ours = torchvision.models.AlexNet(num_classes=7), AlexNet(num_classes=7)
    theirs = theirs.to_empty(device="cpu").eval()
    initialise_weights(theirs)
    weights = zip(ours.state_dict(), theirs.state_dict().values(), strict=True)
    ours.load_state_dict(dict(weights), assign=True)
    for size in (63, 224, 256):
        images = torch.randn(2, 3, size, size)
        with torch.inference_mode():
            assert torch.equal(ours.eval()(images), theirs(images))


@pytest.mark.parametrize(("input_size", "in_channels"), [(15, 3), (28, 1), (32, 3), (62, 3), (63, 3)])
def test_works_on_small_images(input_size: int, in_channels: int) -> None:
    """Images of 15 pixels and more, in one channel or three, give logits."""
    network = AlexNet(5, in_channels, input_size, width=1 / 8).eval()
    assert network(torch.randn(2, in_channels, input_size, input_size)).shape == (2, 5)


def test_too_small_images_are_refused() -> None:
    """Below 15 pixels the pools would leave nothing."""
    with pytest.raises(ValueError, match="input_size is 14, but must be at least 15"):
        AlexNet(5, input_size=14)
