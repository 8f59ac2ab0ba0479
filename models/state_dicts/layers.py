"""The tensors of a state dict by layer, and the layers' kinds.

Owns what a tensor must be before it is copied: dense, of floats, and with all its values in the file.
"""

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from models.networks.vgg import STRIDE

Layers = dict[str, dict[str, Tensor]]  # layer -> `weight`, `bias`, … -> tensor, in the file's order
# Of all tensors, as a multiple of the file's bytes. The tutorial's class has two names for each of its blocks.
MAX_SHARE = 4
MIN_VGG_CONVOLUTIONS = 8  # AlexNet has five


def group_layers(tensors: dict[str, Tensor], path: Path) -> Layers:
    """The tensors by layer, as they are in the file. Raises ValueError for a tensor that is no weight."""
    layers: Layers = {}
    for key, value in tensors.items():
        if (
            value.layout is not torch.strided
            or value.device.type != "cpu"
            or not value.is_floating_point()
            or 0 in value.shape
        ):
            raise ValueError(f"holds {key}, which is no dense tensor of floats")
        stored_bytes = value.untyped_storage().nbytes()
        if value.nbytes > stored_bytes:
            raise ValueError(f"tensor {key} takes {value.nbytes} bytes, but the file has {stored_bytes} for it")
        layer, _, name = key.rpartition(".")
        layers.setdefault(layer, {})[name] = value
    total, limit = sum(value.nbytes for value in tensors.values()), MAX_SHARE * path.stat().st_size
    if total > limit:
        raise ValueError(f"holds tensors of {total} bytes that share memory, but must have at most {limit}")
    return layers


def select_layers(layers: Layers, kind: type[nn.Module]) -> list[str]:
    """The names of the layers of that kind, in order. Raises ValueError for a layer of no known kind."""
    return [name for name, tensors in layers.items() if _layer_type(name, tensors) is kind]


def read_input_size(layers: Layers, head: str | None) -> int | None:
    """The input size that a VGG's first linear layer is for, or None where the head takes any."""
    convolutions, linears = select_layers(layers, nn.Conv2d), select_layers(layers, nn.Linear)
    if head in (None, "pooled") or not linears or len(convolutions) < MIN_VGG_CONVOLUTIONS:
        return None
    return STRIDE * math.isqrt(layers[linears[0]]["weight"].shape[1] // len(layers[convolutions[-1]]["weight"]))


def load_layer(module: nn.Module, layer: str, tensors: dict[str, Tensor], architecture: str) -> None:
    """Gives `module` own copies of the layer's tensors, in float32. Raises ValueError where they do not fit."""
    if isinstance(module, nn.BatchNorm2d):
        tensors = {**tensors, "num_batches_tracked": torch.tensor(0)}
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise ValueError(
                f"tensor {layer}.{name} is {found.get(name, 'missing')}, "
                f"but {architecture} has {wanted.get(name, 'none')} there"
            )
    module.load_state_dict({name: _copy(f"{layer}.{name}", tensor) for name, tensor in tensors.items()}, assign=True)


def _copy(name: str, tensor: Tensor) -> Tensor:
    """An own copy, as the file is mapped into memory; it may be saved in any precision and layout."""
    if not tensor.is_floating_point():
        return tensor
    copy = tensor.detach().to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    if not bool(copy.isfinite().all()):
        raise ValueError(f"tensor {name} has values that are not finite in float32")
    return copy


def _layer_type(name: str, tensors: dict[str, Tensor]) -> type[nn.Module]:
    dimensions = tensors["weight"].dim() if "weight" in tensors else 0
    if dimensions == 1 and "running_mean" in tensors:
        return nn.BatchNorm2d
    if dimensions in (2, 4):
        return nn.Linear if dimensions == 2 else nn.Conv2d
    raise ValueError(f"has {name} ({', '.join(tensors)}), no whole convolution, batch norm or linear layer")
