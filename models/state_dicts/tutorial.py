"""The names of a tutorial's VGGNet class: five blocks conv1..conv5, a second time in `features`, and `classifier`.

Owns dropping the second copy, and matching by order, because names inside the blocks vary.
"""

import re
from itertools import pairwise

import torch
from torch import nn

from models.state_dicts.layers import Layers, select_layers


def is_tutorial(layers: Layers) -> bool:
    """Whether the names are those of the tutorial's class."""
    return any(name.startswith("conv1.") for name in layers)


def drop_copies(layers: Layers) -> Layers:
    """The class registers each block twice, as convN and in `features`: the layers without the latter."""
    blocks = {name: tensors for name, tensors in layers.items() if re.match(r"conv\d+\.", name)}
    copies = {name: tensors for name, tensors in layers.items() if name.startswith("features.")}
    if len(blocks) != len(copies):
        raise ValueError(f"has {len(blocks)} layers under conv1, conv2, …, but {len(copies)} under features")
    for (name, block), (other, copy) in zip(blocks.items(), copies.items(), strict=True):
        if block.keys() != copy.keys() or not all(torch.equal(block[key], copy[key]) for key in block):
            raise ValueError(f"{name} and {other} differ, but should be one layer under two names")
    return {name: tensors for name, tensors in layers.items() if name not in copies}


def match_by_order(model: nn.Module, layers: Layers) -> dict[str, nn.Module]:
    """The module for each layer: the state dict has the layers of each kind in the order of the computation."""
    places: dict[str, nn.Module] = {}
    for kind in (nn.Conv2d, nn.BatchNorm2d, nn.Linear):
        names = select_layers(layers, kind)
        modules = [module for module in model.modules() if isinstance(module, kind)]
        if len(names) != len(modules):
            raise ValueError(f"has {len(names)} {kind.__name__} ({', '.join(names)}), but must have {len(modules)}")
        places.update(zip(names, modules, strict=True))
    numbers = [
        int(number) for name in select_layers(layers, nn.Linear) if (number := name.rpartition(".")[2]).isdecimal()
    ]
    if any(after - before > 1 for before, after in pairwise(numbers)):
        raise ValueError(
            f"has linear layers {numbers}, so that something stands between; the tutorial's class has nothing"
        )
    return places
