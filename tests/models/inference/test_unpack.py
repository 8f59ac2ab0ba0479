"""The plain copy of a network that serves."""

import pytest
import torch

from models.inference.fuse import fuse
from models.inference.prepack import can_prepack, prepack
from models.inference.unpack import copy_unpacked
from models.networks.registry import Architecture, build_network


@pytest.mark.parametrize("name", ["vgg11_bn", "vgg11_lrn", "vgg16c", "alexnet"])
@pytest.mark.parametrize("is_prepacked", [True, False])
def test_the_copy_is_the_same_function(name: str, is_prepacked: bool) -> None:
    """Fused and prepacked, or fused alone, a network and its copy give the same logits."""
    if is_prepacked and not can_prepack(torch.float32):
        pytest.skip("this CPU has no kernels for prepacked weights")
    torch.manual_seed(0)
    model = fuse(build_network(Architecture(name, 4, input_size=32, width=1 / 8)))
    images = torch.randn(2, 3, 32, 32)
    model = prepack(model) if is_prepacked else model
    copied = copy_unpacked(model)
    with torch.no_grad():
        right, given = model(images), copied(images)
    assert torch.allclose(given, right, atol=1e-5)


def test_the_copy_shares_nothing() -> None:
    """Its weights are float32, need no gradient, and may change without the network's."""
    model = fuse(build_network(Architecture("vgg11", 4, input_size=32, width=1 / 8))).bfloat16()
    copied = copy_unpacked(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for parameter in copied.parameters():
        assert parameter.dtype == torch.float32
        assert not parameter.requires_grad
        parameter.data.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
