"""Weights in the order in which the CPU's kernels read them, reordered once instead of at every call.

Owns rewriting a network for oneDNN, the library that torch uses on a CPU. torch's own layers pass plain weights to it,
which it reorders for each batch. For small images this takes longer than the arithmetic.
"""

from typing import Any

import torch
from torch import Tensor, nn

# What torch.compile's CPU back end itself calls; there is no public form. A server compares a prepacked
# network's logits with those of the trained one first.
_ops = torch.ops.mkldnn


def can_prepack(dtype: torch.dtype) -> bool:
    """Whether this CPU's oneDNN has kernels for `dtype`."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    kernels = {torch.float32} if not _ops._is_mkldnn_bf16_supported() else {torch.float32, torch.bfloat16}
    return dtype in kernels


def prepack(model: nn.Module) -> nn.Module:
    """Prepacks every convolution and linear layer inside an `nn.Sequential`, in place, and returns `model`.

    A ReLU right behind one becomes part of it. For evaluation on the CPU only: there is no gradient through a
    prepacked layer, and its weights are not in `model.parameters()`.
    """
    for name, child in list(model.named_children()):
        prepack(child)
        if isinstance(child, nn.Sequential):
            setattr(model, name, nn.Sequential(*_prepack_layers(list(child))))
    return model


class PrepackedConv(nn.Module):
    """The same function as `conv`, followed by a ReLU if `rectified`: (N, C, H, W) -> (N, C', H', W')."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, conv: nn.Conv2d, *, rectified: bool) -> None:
        super().__init__()
        self.geometry: Any = (conv.padding, conv.stride, conv.dilation, conv.groups)
        self.rectified = rectified
        self._behind = "relu" if rectified else "none"
        self.register_buffer("weight", _ops._reorder_convolution_weight(conv.weight.detach(), *self.geometry, None))
        self.register_buffer("bias", conv.bias if conv.bias is None else conv.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = _ops._convolution_pointwise(x, self.weight, self.bias, *self.geometry, self._behind, [], "")
        return result


class PrepackedLinear(nn.Module):
    """The same function as `linear`, followed by a ReLU if `rectified`: (N, C) -> (N, C')."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear, *, rectified: bool) -> None:
        super().__init__()
        self.rectified = rectified
        self._behind = "relu" if rectified else "none"
        self.register_buffer("weight", _ops._reorder_linear_weight(linear.weight.detach(), None))
        self.register_buffer("bias", linear.bias if linear.bias is None else linear.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = _ops._linear_pointwise(x, self.weight, self.bias, self._behind, [], "")
        return result


def _prepack_layers(layers: list[nn.Module]) -> list[nn.Module]:
    result: list[nn.Module] = []
    for layer, behind in zip(layers, [*layers[1:], None], strict=True):
        rectified = isinstance(behind, nn.ReLU)
        if isinstance(layer, nn.Conv2d):
            result.append(PrepackedConv(layer, rectified=rectified))
        elif isinstance(layer, nn.Linear):
            result.append(PrepackedLinear(layer, rectified=rectified))
        elif not (isinstance(layer, nn.ReLU) and result and isinstance(result[-1], PrepackedConv | PrepackedLinear)):
            result.append(layer)
    return result
