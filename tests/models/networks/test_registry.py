"""Architecture names, and the errors that name what is wrong with one."""

import pytest
import torch

from models.networks.alexnet import AlexNet
from models.networks.registry import NAMES, Architecture, build_network
from models.networks.vgg import VGG


def test_names_are_the_paper_s_and_the_baseline() -> None:
    """Six columns, five of them with batch norm too (A-LRN has its own normalisation), and AlexNet."""
    columns = {"vgg11", "vgg11_lrn", "vgg13", "vgg16c", "vgg16", "vgg19"}
    assert set(NAMES) == columns | {name + "_bn" for name in columns - {"vgg11_lrn"}} | {"alexnet"}
    assert len(NAMES) == len(set(NAMES))


@pytest.mark.parametrize("name", NAMES)
def test_every_name_builds_its_class(name: str) -> None:
    """`build` gives the network of the name, in training mode, in float32, with as many outputs as classes."""
    network = build_network(Architecture(name, num_classes=3, input_size=32, width=1 / 32))
    assert isinstance(network, AlexNet if name == "alexnet" else VGG)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 3)
    assert any("running_mean" in key for key in network.state_dict()) == name.endswith("_bn")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "vgg17"}, "architecture is 'vgg17', but must be one of vgg11, vgg11_lrn, "),
        ({"name": "vgg11_lrn_bn"}, "architecture is 'vgg11_lrn_bn', but must be one of "),
        ({"head": "flat"}, "head is 'flat', but vgg16 has linear, paper, pooled"),
        ({"name": "alexnet", "head": "linear"}, "head is 'linear', but alexnet has paper"),
        ({"num_classes": 1}, "num_classes is 1, but must be at least 2"),
        ({"in_channels": 4}, "in_channels is 4, but must be 1"),
        ({"width": 0.0}, "width is 0.0, but must lie in"),
        ({"width": float("nan")}, "width is nan, but must lie in"),
    ],
)
def test_impossible_architectures_are_refused(arguments: dict[str, object], message: str) -> None:
    """A field out of range is refused by its name, its value and the range."""
    fields = {"name": "vgg16", "num_classes": 2} | arguments
    with pytest.raises(ValueError, match=f"^{message}"):
        Architecture(**fields)  # type: ignore[arg-type]
