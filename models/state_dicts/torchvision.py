"""The names that torchvision has for a VGG and AlexNet, and what else goes by numbers under `features`.

Owns translating timm's heads and older numbers into torchvision's, heads of one layer, and matching by name.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.networks.registry import Architecture
from models.networks.vgg import HIDDEN, STRIDE, VGG, scale_width
from models.state_dicts.layers import Layers, select_layers

POOLED_GRID = 7  # torchvision and timm pool every map to 7 x 7 in front of a VGG's first linear layer
TIMM = {"pre_logits.fc1": "classifier.0", "pre_logits.fc2": "classifier.3", "head.fc": "classifier.6"}
MAX_EXPANSION = 64  # bytes of a head of three layers for each byte of the one layer that it stands for, beyond 1 GiB
# torchvision's VGG before version 0.1.7, and weights that were converted from Caffe for it.
OLD = {"classifier.1": "classifier.0", "classifier.4": "classifier.3"}


def drop_foreign_head(layers: Layers) -> Layers:
    """The features alone, if what stands behind them is no head that is read, as of a network that was fine-tuned."""
    behind = {name for name in layers if not name.startswith("features.")}
    known = (set(TIMM), set(TIMM.values()), {*OLD, "classifier.6"})
    if len(behind) == 1 or behind in known:
        return layers
    return {name: tensors for name, tensors in layers.items() if name not in behind}


def translate_head(layers: Layers) -> Layers:
    """The layers with torchvision's names: those of timm, older ones, and a single linear layer as `classifier.0`."""
    layers = _undo_chain(layers)
    if "pre_logits.fc1" in layers:
        head = {ours: _flatten(layers[theirs]) for theirs, ours in TIMM.items() if theirs in layers}
        return {name: tensors for name, tensors in layers.items() if name not in TIMM} | head
    linears = select_layers(layers, nn.Linear)
    if len(linears) == 1:
        return {"classifier.0" if name == linears[0] else name: tensors for name, tensors in layers.items()}
    if linears == ["classifier.1", "classifier.4", "classifier.6"] and len(select_layers(layers, nn.Conv2d)) > 5:
        return {OLD.get(name, name): tensors for name, tensors in layers.items()}
    return layers


def match_by_name(model: nn.Module, layers: Layers) -> dict[str, nn.Module]:
    """The module for each layer: torchvision counts the layers without weights too, so a number is a place."""
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


def describe_head(layers: Layers, input_size: int | None) -> tuple[str | None, int | None]:
    """Our head for the translated layers, and the input size, which they may tell. No head: None.

    Raises ValueError for a single linear layer that is not for a square map.
    """
    linears = select_layers(layers, nn.Linear)
    if len(linears) != 1:
        return ("paper" if linears else None), None
    grid = _read_grid(layers)
    own_size = None if grid in (1, POOLED_GRID) else STRIDE * grid
    size = max(own_size or input_size or STRIDE, STRIDE)
    return ("pooled" if _is_mean(_fit_weight(layers, size // STRIDE)) else "linear"), own_size


def fit_head(layers: Layers, architecture: Architecture) -> Layers:
    """The layers with a head for the architecture's own map: without the pool to 7 x 7, and as our head has it.

    The pool is linear, so this is exact. At 224 pixels it does nothing.
    """
    if not architecture.name.startswith("vgg") or "weight" not in layers.get("classifier.0", {}):
        return layers
    grid, first = architecture.input_size // STRIDE, layers["classifier.0"]
    if architecture.head == "paper":
        return {**layers, "classifier.0": {**first, "weight": _fuse_pool(first["weight"], grid)}}
    cells = _fit_weight(layers, grid)
    if architecture.head == "pooled":
        return {**layers, "classifier.0": {**first, "weight": cells.sum(dim=2)}}
    return {**layers, **_expand_linear(cells.flatten(1), first.get("bias"), scale_width(HIDDEN, architecture.width))}


def _fit_weight(layers: Layers, grid: int) -> Tensor:
    """The single linear layer's weight as (K, C, cells), for a map of `grid` x `grid` or of one mean."""
    weight, own_grid = layers["classifier.0"]["weight"].float(), _read_grid(layers)
    if own_grid == POOLED_GRID:
        weight, own_grid = _fuse_pool(weight, grid), grid
    return weight.reshape(len(weight), -1, own_grid * own_grid)


def _read_grid(layers: Layers) -> int:
    """The side of the map that the layer `classifier.0` takes."""
    features, channels = (
        layers["classifier.0"]["weight"].shape[1],
        len(layers[select_layers(layers, nn.Conv2d)[-1]]["weight"]),
    )
    grid = math.isqrt(features // channels)
    if grid * grid * channels != features:
        raise ValueError(f"has a linear layer for {features} values, but the map has {channels} channels in a square")
    return grid


def _is_mean(cells: Tensor) -> bool:
    """Whether a (K, C, cells) weight takes the mean of each channel's map."""
    mean = cells.mean(dim=2, keepdim=True)
    return torch.allclose(cells, mean.expand_as(cells), rtol=1e-3, atol=1e-3 * float(mean.abs().max()))


def _fuse_pool(weight: Tensor, grid: int) -> Tensor:
    """(O, C * 7 * 7) weights of the pooled map -> (O, C * grid * grid) of the map itself."""
    if grid == POOLED_GRID or weight.shape[1] % POOLED_GRID**2:
        return weight
    pool = F.adaptive_avg_pool1d(torch.eye(grid), POOLED_GRID)  # (grid, 7), along either axis
    cells = weight.float().reshape(len(weight), -1, POOLED_GRID, POOLED_GRID)  # (O, C, 7, 7)
    return torch.einsum("ocpq,ip,jq->ocij", cells, pool, pool).flatten(1)


def _expand_linear(weight: Tensor, bias: Tensor | None, hidden: int) -> Layers:
    """One linear layer as the three of the head `linear`, with nothing between: the first classes of each are it."""
    classes = len(weight)
    if bias is None or classes > hidden:
        raise ValueError(f"has one linear layer for {classes} classes, but must have a bias and at most {hidden}")
    shapes = ((hidden, weight.shape[1]), (hidden, hidden), (classes, hidden))
    if (need := 4 * hidden * weight.shape[1]) > MAX_EXPANSION * weight.nbytes + 2**30:
        raise ValueError(f"has one linear layer that would take {need} bytes as this project's head of three")
    first, second, third = (torch.zeros(shape) for shape in shapes)
    first[:classes], second[:classes, :classes], third[:, :classes] = weight, torch.eye(classes), torch.eye(classes)
    return {
        "classifier.0": {"weight": first, "bias": F.pad(bias.float(), (0, hidden - classes))},
        "classifier.1": {"weight": second, "bias": torch.zeros(hidden)},
        "classifier.2": {"weight": third, "bias": torch.zeros(classes)},
    }


def _flatten(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm's head has convolutions, (O, C, 7, 7) and (O, C, 1, 1), for torchvision's linear layers."""
    weight = tensors.get("weight")
    is_head = weight is not None and weight.dim() == 4 and weight.shape[-1] in (1, POOLED_GRID)
    return {**tensors, "weight": weight.flatten(1)} if is_head and weight is not None else tensors


def _undo_chain(layers: Layers) -> Layers:
    """Our export gives timm a single linear layer as three with ReLU between: relu(y) - relu(-y). Undoes that."""
    first, last = layers.get("pre_logits.fc1", {}), layers.get("head.fc")
    weight, bias = first.get("weight"), first.get("bias")
    if last is None or "weight" not in last or weight is None or bias is None or len(weight) == HIDDEN:
        return layers
    classes = len(last["weight"])
    if len(weight) != 2 * classes or not torch.equal(weight[:classes], -weight[classes:]):
        return layers
    chain = {"weight": weight[:classes].flatten(1), "bias": bias[:classes]}
    return {**{name: t for name, t in layers.items() if name not in TIMM}, "classifier": chain}
