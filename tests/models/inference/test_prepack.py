"""Packing for the CPU's kernels: other layers, the same function."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from app.serving.classifier import load_classifier
from models.checkpoint import read_checkpoint
from models.inference.fuse import fuse
from models.inference.prepack import PrepackedConv, PrepackedLinear, can_prepack, prepack
from models.networks.registry import NAMES, Architecture, build_network

pytestmark = pytest.mark.skipif(not can_prepack(torch.float32), reason="torch was built without oneDNN")

CASES = [
    (name, head, dtype)
    for name, head in (*((name, "paper") for name in NAMES), ("vgg16_bn", "linear"), ("vgg16", "pooled"))
    for dtype in (torch.float32, torch.bfloat16)
    # torch has no response normalisation in bfloat16 on CPUs
    if can_prepack(dtype) and (name, dtype) != ("vgg11_lrn", torch.bfloat16)
]


def folded(architecture: Architecture) -> nn.Module:
    torch.manual_seed(0)
    return fuse(build_network(architecture)).requires_grad_(requires_grad=False)


@pytest.mark.parametrize(("name", "head", "dtype"), CASES)
def test_the_function_stays_the_same(name: str, head: str, dtype: torch.dtype) -> None:
    """Every network gives the same logits packed, alone and in batches."""
    network = folded(Architecture(name, 5, input_size=32, head=head, width=1 / 16)).to(dtype)
    packed = prepack(copy.deepcopy(network))
    tolerance = 1e-4 if dtype == torch.float32 else 2e-2
    for size in (1, 7):
        images = torch.randn(size, 3, 32, 32, dtype=dtype).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            expected = network(images)
            largest = expected.abs().max().item()
            torch.testing.assert_close(packed(images), expected, rtol=tolerance, atol=tolerance * largest)


def test_every_layer_with_weights_is_packed() -> None:
    """No convolution or linear layer is left as it was, and no ReLU but the one behind the response normalisation."""
    packed = prepack(folded(Architecture("vgg16_bn", 5, input_size=32, head="paper", width=1 / 16)))
    kinds = [type(module) for module in packed.modules()]
    assert kinds.count(PrepackedConv) == 13
    assert kinds.count(PrepackedLinear) == 3
    assert not {nn.Conv2d, nn.Linear, nn.ReLU} & set(kinds)


def test_a_relu_elsewhere_stays() -> None:
    """Only a ReLU right behind a layer with weights becomes part of it."""
    layers = nn.Sequential(nn.Conv2d(1, 1, 1), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2), nn.ReLU())
    packed = prepack(nn.ModuleList([copy.deepcopy(layers)]).requires_grad_(requires_grad=False))
    images = torch.randn(8, 1, 4, 4)
    assert [type(module) for module in packed[0]] == [PrepackedConv, nn.MaxPool2d, nn.ReLU, nn.Flatten, PrepackedLinear]  # type: ignore[index]
    torch.testing.assert_close(packed[0](images), layers(images))  # type: ignore[index]


def test_what_the_cpu_serves_is_packed(checkpoint: Path) -> None:
    """The classifier packs its network for every precision that the CPU has kernels for."""
    network = load_classifier(read_checkpoint(checkpoint), "cpu", "float32")._model
    assert any(isinstance(module, PrepackedConv) for module in network.modules())


def test_a_precision_without_kernels_is_left() -> None:
    """Integers have none."""
    assert not can_prepack(torch.int8)
