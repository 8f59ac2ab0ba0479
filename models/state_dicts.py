"""State dicts of other projects: torchvision's VGG and AlexNet, and a tutorial's VGGNet.

Owns recognising them and moving their tensors into our modules. Objects are never unpickled.
"""

import math
import re
import warnings
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.checkpoint import CheckpointError
from models.networks.registry import BATCH_NORM_SUFFIX, Architecture, build_network
from models.networks.vgg import STRIDE, VGG

NAME_BY_CONVOLUTIONS = {5: "alexnet", 8: "vgg11", 10: "vgg13", 13: "vgg16", 16: "vgg19"}
CHANNELS = 64  # of the first convolution, in all of them
POOLED_GRID = 7  # torchvision's VGG pools every map to 7 x 7 in front of its first linear layer

Layers = dict[str, dict[str, Tensor]]  # layer -> `weight`, `bias`, … -> tensor, in the file's order


def load_state_dict_file(
    path: Path, architecture: str | None = None, *, in_channels: int | None = None, input_size: int | None = None
) -> tuple[Architecture, nn.Module]:
    """Our module, in evaluation mode and float32 on the CPU, with the weights that `path` holds.

    The file is what torch.save made of a `state_dict()`, plain or under the key `state_dict` or
    `model`. What its tensors determine is read from them, and an argument that contradicts them is
    refused. Torchvision's networks take any `input_size`, so there it must be given: a multiple of
    32 pixels for a VGG, at least 63 for AlexNet. Raises CheckpointError, naming the file and the fault.
    """
    try:
        return _convert(_layers(_read(path)), architecture, in_channels, input_size)
    except ValueError as error:
        raise CheckpointError(path, str(error)) from error


def _convert(
    layers: Layers, architecture: str | None, in_channels: int | None, input_size: int | None
) -> tuple[Architecture, nn.Module]:
    tutorial = any(name.startswith("conv1.") for name in layers)
    if tutorial:
        layers = _drop_copies(layers)
    found = _recognise(layers, tutorial, input_size)
    for field, given, read in (
        ("architecture", architecture, found.name),
        ("in_channels", in_channels, found.in_channels),
        ("input_size", input_size, found.input_size),
    ):
        if given not in (None, read):
            raise ValueError(f"{field} is given as {given}, but the weights are for {read}")
    with torch.device("meta"):  # no memory is touched or initialised for weights that are replaced
        model = build_network(found)
    places = _match_by_order(model, layers) if tutorial else _match_by_name(model, layers)
    if isinstance(model, VGG) and not tutorial:
        _fuse_pool(layers["classifier.0"], found.input_size // STRIDE)
    for name, module in places.items():
        _load_layer(module, name, layers[name], found.name)
    return found, model.eval()


def _read(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on odd pickles, which are refused or read all the same
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except OSError as error:
        raise ValueError((error.strerror or str(error)).lower()) from error
    except Exception as error:  # a broken pickle may raise anything
        if refused := re.search(r"GLOBAL (\S+) was not an allowed", str(error)):
            raise ValueError(f"holds a {refused[1]}, not tensors alone; save model.state_dict() instead") from error
        raise ValueError("is not a whole file of torch.save") from error


def _layers(loaded: Any) -> Layers:
    """The tensors by layer, in float32; the prefixes that wrappers such as DataParallel add are dropped."""
    for key in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not loaded:
        raise ValueError("holds no state dict, neither plain nor under the key state_dict or model")
    layers: Layers = {}
    for key, value in loaded.items():
        layer, _, name = re.sub(r"^((module|_orig_mod)\.)+", "", str(key)).rpartition(".")
        if name == "num_batches_tracked":  # without effect, and not in files older than PyTorch 0.4.1
            continue
        if not isinstance(value, Tensor) or value.layout is not torch.strided or not value.is_floating_point():
            raise ValueError(f"holds {key}, which is no dense tensor of floats")
        # an own copy, as the file is mapped into memory; it may be saved in any precision and layout
        tensor = value.detach().to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"tensor {key} has values that are not finite in float32")
        layers.setdefault(layer, {})[name] = tensor
    return layers


def _drop_copies(layers: Layers) -> Layers:
    """The tutorial's class registers each block twice, as convN and in `features`: the layers without the latter."""
    blocks = {name: tensors for name, tensors in layers.items() if re.match(r"conv\d+\.", name)}
    copies = {name: tensors for name, tensors in layers.items() if name.startswith("features.")}
    if len(blocks) != len(copies):
        raise ValueError(f"has {len(blocks)} layers under conv1, conv2, …, but {len(copies)} under features")
    for (name, block), (other, copy) in zip(blocks.items(), copies.items(), strict=True):
        if block.keys() != copy.keys() or not all(torch.equal(block[key], copy[key]) for key in block):
            raise ValueError(f"{name} and {other} differ, but should be one layer under two names")
    return {name: tensors for name, tensors in layers.items() if name not in copies}


def _select_layers(layers: Layers, kind: type[nn.Module]) -> list[str]:
    return [name for name, tensors in layers.items() if _layer_type(name, tensors) is kind]


def _layer_type(name: str, tensors: dict[str, Tensor]) -> type[nn.Module]:
    dimensions = tensors["weight"].dim() if "weight" in tensors else 0
    if dimensions == 1 and "running_mean" in tensors:
        return nn.BatchNorm2d
    if dimensions in (2, 4):
        return nn.Linear if dimensions == 2 else nn.Conv2d
    raise ValueError(f"has {name} ({', '.join(tensors)}), no whole convolution, batch norm or linear layer")


def _recognise(layers: Layers, tutorial: bool, input_size: int | None) -> Architecture:
    convolutions = [layers[name]["weight"] for name in _select_layers(layers, nn.Conv2d)]
    linears = [layers[name]["weight"] for name in _select_layers(layers, nn.Linear)]
    name = NAME_BY_CONVOLUTIONS.get(len(convolutions))
    if name is None:
        known = ", ".join(f"{count} ({name})" for count, name in NAME_BY_CONVOLUTIONS.items())
        raise ValueError(f"has {len(convolutions)} convolutions, but must have one of {known}")
    if not linears:
        raise ValueError("has no linear layers")
    if tutorial:
        input_size = STRIDE * math.isqrt(linears[0].shape[1] // len(convolutions[-1]))
    if input_size is None:
        raise ValueError("does not tell its input size, as torchvision's networks take any; give it (--input-size)")
    return Architecture(
        name=name + (BATCH_NORM_SUFFIX if _select_layers(layers, nn.BatchNorm2d) else ""),
        num_classes=len(linears[-1]),
        in_channels=convolutions[0].shape[1],
        input_size=input_size,
        head="linear" if tutorial else "paper",
        width=len(convolutions[0]) / CHANNELS,
    )


def _match_by_order(model: nn.Module, layers: Layers) -> dict[str, nn.Module]:
    """For the tutorial's class: its state dict has the layers of each kind in the order of the computation."""
    places: dict[str, nn.Module] = {}
    for kind in (nn.Conv2d, nn.BatchNorm2d, nn.Linear):
        names, modules = (
            _select_layers(layers, kind),
            [module for module in model.modules() if isinstance(module, kind)],
        )
        if len(names) != len(modules):
            raise ValueError(f"has {len(names)} {kind.__name__} ({', '.join(names)}), but must have {len(modules)}")
        places.update(zip(names, modules, strict=True))
    numbers = [
        int(number) for name in _select_layers(layers, nn.Linear) if (number := name.rpartition(".")[2]).isdecimal()
    ]
    if any(after - before > 1 for before, after in pairwise(numbers)):
        raise ValueError(
            f"has linear layers {numbers}, so that something stands between; the tutorial's class has nothing"
        )
    return places


def _match_by_name(model: nn.Module, layers: Layers) -> dict[str, nn.Module]:
    """For torchvision: it counts the layers without weights too, so that a number is a place in the network."""
    body, head = model.children()
    if isinstance(model, VGG):
        features = [layer for block in body.children() for layer in (*block.children(), nn.MaxPool2d(2))]
    else:
        features = [*body.children()]
    classifier = [layer for layer in head.children() if not isinstance(layer, nn.Flatten | nn.AdaptiveAvgPool2d)]
    numbered = {f"features.{i}": layer for i, layer in enumerate(features)}
    numbered |= {f"classifier.{i}": layer for i, layer in enumerate(classifier)}
    places = {name: layer for name, layer in numbered.items() if layer.state_dict()}
    if missing := [name for name in places if name not in layers]:
        raise ValueError(f"has no {missing[0]}, so it is neither torchvision's network nor the tutorial's")
    if unexpected := [name for name in layers if name not in places]:
        raise ValueError(f"has {unexpected[0]}, which torchvision's network has not")
    return places


def _fuse_pool(linear: dict[str, Tensor], grid: int) -> None:
    """Makes a layer for the 7 x 7 pooled map one for the `grid` x `grid` map itself.

    The pool is linear, so this is exact; at 224 pixels it does nothing.
    """
    if grid != POOLED_GRID and linear["weight"].shape[1] % POOLED_GRID**2 == 0:
        pool = F.adaptive_avg_pool1d(torch.eye(grid), POOLED_GRID)  # (grid, 7), along either axis
        cells = linear["weight"].reshape(len(linear["weight"]), -1, POOLED_GRID, POOLED_GRID)  # (O, C, 7, 7)
        linear["weight"] = torch.einsum("ocpq,ip,jq->ocij", cells, pool, pool).flatten(1)


def _load_layer(module: nn.Module, layer: str, tensors: dict[str, Tensor], architecture: str) -> None:
    if isinstance(module, nn.BatchNorm2d):
        tensors["num_batches_tracked"] = torch.tensor(0)
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise ValueError(
                f"tensor {layer}.{name} is {found.get(name, 'missing')}, "
                f"but {architecture} has {wanted.get(name, 'none')} there"
            )
    module.load_state_dict(tensors, assign=True)
