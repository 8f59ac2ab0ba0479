"""Which tensors of a file are the network's: the one state dict in whatever a training script saved around it.

Owns the names of wrappers and of averaged weights, and what a file without such a network seems to hold.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

MAX_DEPTH = 6  # of dicts and lists around a state dict
WRAPPERS = ("module", "_orig_mod")  # what DataParallel, DDP, AveragedModel and torch.compile put into names
WITHOUT_EFFECT = ("num_batches_tracked", "n_averaged")  # counters
USUAL = ("", "state_dict", "model_state_dict", "model", "net", "network", "weights", "params")
AVERAGED = re.compile(r"(^|_)(ema|swa|averaged|avg|shadow)(_|$)")
# How a layer's tensor is called from where the network begins: torchvision's and timm's, ours, the tutorial's.
ROOT = re.compile(
    r"(?:^|(?<=\.))(features\.\d+\.[a-z_]+|blocks\.\d\.\d+\.[a-z_]+|body\.\d+\.[a-z_]+|conv1\.\d+\..*[a-z_]+)$"
)
BARE = re.compile(r"\d+\.(weight|bias|running_mean|running_var)")
FAMILIES = (
    ("a ResNet", re.compile(r"(^|\.)layer\d\.\d+\.(conv|bn)\d")),
    ("a DenseNet", re.compile(r"denseblock")),
    ("a vision transformer", re.compile(r"\.attn\.|self_attention|\.attention\.")),
    ("an Inception network", re.compile(r"Mixed_|inception")),
    ("a VGG with Caffe's names", re.compile(r"conv1_1\.")),
    ("a VGG that was cut into slices, as LPIPS has it", re.compile(r"slice1\.\d+\.")),
    ("a network of separable convolutions", re.compile(r"conv_dw|features\.\d+\.conv\.\d|features\.\d+\.\d+\.")),
)
READABLE = "read are VGG and AlexNet with the names of torchvision, of timm, of the tutorial's class or of this project"


@dataclass(frozen=True, slots=True, eq=False)
class StateDict:
    """One network's tensors by name, without wrappers and without what stands in front of all names.

    `name` says where in the file it is, "" for the file itself. `others` names the tensors beside the network.
    """

    name: str
    tensors: dict[str, Tensor]
    others: tuple[str, ...]


def select_state_dict(loaded: Any, which: str | None = None) -> tuple[StateDict, tuple[str, ...]]:
    """The network `which`, else the averaged one, else the usual one; and the names of all others.

    Raises ValueError where there is none, where `which` is none of them, or where nothing says which one is meant.
    """
    found = [network for path, state in _find_dicts(loaded) for network in _split_networks(path, state)]
    if not found:
        raise ValueError(_describe(loaded))
    names = ", ".join(repr(network.name) for network in found)
    if which is not None:
        best = [n for n in found if n.name == which] or [n for n in found if which in n.name.split(".")]
        if not best:
            raise ValueError(f"which is {which!r}, but must be one of {names}")
    else:
        least = min(map(_rank, found))
        best = [network for network in found if _rank(network) == least]
    if len(best) > 1:
        raise ValueError(f"holds several networks, {names}; choose one of them (--which)")
    return best[0], tuple(network.name for network in found if network is not best[0])


def _rank(network: StateDict) -> int:
    parts = network.name.split(".")
    if any(AVERAGED.search(part) for part in parts):
        return 0
    return 1 if all(part in USUAL for part in parts) else 2


def _find_dicts(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Every dict inside `value` that holds tensors, and the keys that lead to it."""
    if len(path) > MAX_DEPTH or not isinstance(value, dict | list | tuple):
        return
    items = dict(value.items() if isinstance(value, dict) else enumerate(value))
    if tensors := {key: item for key, item in items.items() if isinstance(key, str) and isinstance(item, Tensor)}:
        yield path, tensors
    for key, item in items.items():
        yield from _find_dicts(item, (*path, str(key)))


def _split_networks(path: tuple[str, ...], state: dict[str, Tensor]) -> Iterator[StateDict]:
    """The networks in one dict: often one, under a common prefix such as `model.`."""
    clean: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = ".".join(part for part in key.split(".") if part not in WRAPPERS)
        if name.rpartition(".")[2] in WITHOUT_EFFECT:
            continue
        if name in clean:
            raise ValueError(f"holds {name} twice, with and without a wrapper's prefix")
        clean[name] = tensor
    if clean and all(map(BARE.fullmatch, clean)):  # of `torch.save(model.features.state_dict())`
        clean = {f"features.{name}": tensor for name, tensor in clean.items()}
    prefixes = dict.fromkeys(key[: match.start(1)] for key in clean if (match := ROOT.search(key)))
    # The tutorial's class has every block a second time. Other networks begin with conv1 as well.
    prefixes = {p: None for p in prefixes if any(key.startswith((p + "features.", p + "b")) for key in clean)}
    owners = {key: max((p for p in prefixes if key.startswith(p)), key=len, default=None) for key in clean}
    for prefix in prefixes:
        tensors = {key[len(prefix) :]: clean[key] for key, owner in owners.items() if owner == prefix}
        others = tuple(key for key, owner in owners.items() if owner is None)
        yield StateDict(".".join((*path, *filter(None, prefix.split(".")))), tensors, others)


def _describe(loaded: Any) -> str:
    """What is in a file that holds no network that can be read."""
    if not isinstance(loaded, dict):
        return f"holds no state dict, but a {type(loaded).__name__}"
    if {"state", "param_groups"} <= loaded.keys():
        return "holds no state dict of a network: it seems to be the state of an optimiser"
    keys = [".".join((*path, key)) for path, state in _find_dicts(loaded) for key in state]
    if not keys:
        shown = ", ".join(str(key) for key in list(loaded)[:5]) or "none"
        return f"holds no state dict: there is no tensor under its keys ({shown})"
    family = next((name for name, pattern in FAMILIES if any(map(pattern.search, keys))), None)
    seems = f"; it seems to be {family}" if family else ""
    return f"holds no network that can be read: its first keys are {', '.join(keys[:5])}{seems}; {READABLE}"
