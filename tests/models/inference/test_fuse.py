"""Folding for inference: fewer layers, the same function."""

import copy

import pytest
import torch
from torch import nn

from models.inference.fuse import fuse
from models.networks.registry import NAMES, Architecture, build_network


def trained(architecture: Architecture) -> nn.Module:
    """A network in evaluation mode whose batch norms have statistics, gains and biases that matter."""
    torch.manual_seed(0)
    network = build_network(architecture)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for name in ("weight", "bias", "running_mean", "running_var"):
                nn.init.uniform_(getattr(module, name), 0.5, 1.5)
    return network.eval()


def kinds(network: nn.Module) -> set[str]:
    return {type(module).__name__ for module in network.modules()}


@pytest.mark.parametrize(
    ("name", "head"),
    [*((name, "paper") for name in NAMES), ("vgg16_bn", "linear"), ("vgg16", "linear"), ("vgg19_bn", "pooled")],
)
def test_the_function_stays_the_same(name: str, head: str) -> None:
    """Every network gives the same logits folded, without batch norm or dropout."""
    network = trained(Architecture(name, 5, input_size=32, head=head, width=1 / 16))
    folded = fuse(copy.deepcopy(network))
    images = torch.randn(4, 3, 32, 32)
    with torch.inference_mode():
        expected = network(images)
        torch.testing.assert_close(folded(images), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    assert kinds(folded).isdisjoint({"BatchNorm2d", "Dropout"})


def test_the_linear_head_becomes_one_layer() -> None:
    """Three linear layers with nothing between are folded into one."""
    network = build_network(Architecture("vgg11", 10, input_size=64, head="linear", width=1 / 4))
    linears = [module for module in fuse(network).modules() if isinstance(module, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linears] == [(512 // 4 * 2 * 2, 10)]
    assert linears[0].weight.shape == (10, 512)


def test_the_paper_head_keeps_its_layers() -> None:
    """With a ReLU between them linear layers cannot be one."""
    network = fuse(build_network(Architecture("vgg11", 10, input_size=32, head="paper", width=1 / 16)))
    assert sum(isinstance(module, nn.Linear) for module in network.modules()) == 3
