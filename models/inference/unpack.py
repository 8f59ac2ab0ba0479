"""A plain float32 copy of a network that serves, which gradients can pass.

Owns undoing `prepack`: a prepacked layer has no gradient. What `fuse` did stays, because it is the same function.
"""

import copy

import torch
from torch import Tensor, nn

from models.inference.prepack import PrepackedConv, PrepackedLinear


def copy_unpacked(model: nn.Module) -> nn.Module:
    """A copy of `model` in float32 on the CPU that shares no memory with it. Takes 4 bytes for each weight."""
    copied = _copy(model)
    return copied.eval().requires_grad_(requires_grad=False)


def _copy(module: nn.Module) -> nn.Module:
    if isinstance(module, PrepackedConv | PrepackedLinear):
        return _unpack(module)
    result = copy.copy(module)  # its dictionaries are still the module's own, and are replaced
    result.__dict__.update(
        _modules={name: None if child is None else _copy(child) for name, child in module._modules.items()},
        _parameters={name: _copy_parameter(tensor) for name, tensor in module._parameters.items()},
        _buffers={name: None if tensor is None else _to_plain(tensor) for name, tensor in module._buffers.items()},
    )
    return result


def _unpack(layer: PrepackedConv | PrepackedLinear) -> nn.Module:
    weight, bias = _to_plain(layer.weight), None if layer.bias is None else _to_plain(layer.bias)
    plain: nn.Module
    if isinstance(layer, PrepackedConv):
        padding, stride, dilation, groups = layer.geometry
        out_channels, in_channels, *kernel_size = weight.shape
        with torch.device("meta"):
            plain = nn.Conv2d(
                in_channels * groups,
                out_channels,
                (kernel_size[0], kernel_size[1]),
                stride,
                padding,
                dilation,
                groups,
                bias=bias is not None,
            )
    else:
        with torch.device("meta"):
            plain = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    plain.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}), assign=True)
    return nn.Sequential(plain, nn.ReLU()) if layer.rectified else plain


def _copy_parameter(tensor: nn.Parameter | None) -> nn.Parameter | None:
    return None if tensor is None else nn.Parameter(_to_plain(tensor), requires_grad=False)


def _to_plain(tensor: Tensor) -> Tensor:
    dense = tensor.detach().to_dense() if tensor.is_mkldnn else tensor.detach()
    return dense.to("cpu", torch.float32 if dense.is_floating_point() else None, copy=True)
