"""How much memory a run may take on this machine, and how much it will take.

A process that takes more is killed by the system without a word, so what is too much is refused before it is begun.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from models.networks.registry import build_network
from training.errors import TrainingError
from training.recipe import Recipe

COPIES_OF_WEIGHTS = 4  # the weights, their average, the gradients, the momentum
UNLIMITED = 2**60  # control groups write a number above this where there is no limit
MIB = 2**20


def available_bytes(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """What this process can still take: the least of the machine's free memory and what its control groups leave.

    `cgroups` is where control groups, version 1 or 2, are mounted. Caches that the system can drop count as free.
    """
    found = list(_cgroup_room(proc, cgroups))
    try:
        fields = dict(line.split(":") for line in (proc / "meminfo").read_text().splitlines())
        found.append(int(fields["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):  # not Linux, or without procfs
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return max(0, min(found))


def training_bytes(recipe: Recipe, num_classes: int) -> int:
    """A lower bound of what a training step takes beside the images: weights, and what is kept for the gradients.

    Builds the network without memory (torch's device `meta`) and sums what autograd keeps.
    """
    # The CPU's bfloat16 halves what most layers keep.
    share = 2 if recipe.precision == "bfloat16" else 1
    with torch.device("meta"):
        model = build_network(recipe.network(num_classes)).train()
        images = torch.empty(2, recipe.channels, recipe.size, recipe.size)
    weights: int = sum(tensor.nbytes for tensor in model.state_dict().values())
    kept = _kept_bytes(model, images) - weights
    return COPIES_OF_WEIGHTS * weights + max(0, kept) * recipe.batch_size // (len(images) * share)


def check_memory(need_bytes: int, what: str, advice: str, available: int) -> None:
    """Raises TrainingError if `what` needs more than is available. The message ends with `advice`."""
    if need_bytes > available:
        raise TrainingError(f"{what} take {_show(need_bytes)} of memory, but {_show(available)} are free; {advice}")


def _kept_bytes(model: nn.Module, images: Tensor) -> int:
    """The bytes of all storages that autograd keeps of one forward pass."""
    storages: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(images)
    del logits
    return sum(tensor.untyped_storage().nbytes() for tensor in storages.values())


def _cgroup_room(proc: Path, cgroups: Path) -> Iterator[int]:
    """What each control group that this process is in leaves of its limit."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        version_2 = not controllers
        if not version_2 and "memory" not in controllers.split(","):
            continue
        root = cgroups if version_2 else cgroups / "memory"
        names = ("memory.max", "memory.current") if version_2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        # A container often sees its own group as the root, whatever /proc says its path is.
        relative = Path(path.lstrip("/"))
        for folder in (root / relative, *(root / parent for parent in relative.parents)):
            if (room := _room(folder, *names)) is not None:
                yield room


def _room(folder: Path, limit_name: str, usage_name: str) -> int | None:
    try:
        limit = int((folder / limit_name).read_text())
        usage = int((folder / usage_name).read_text())
    except (OSError, ValueError):  # not there, or `max`
        return None
    if limit >= UNLIMITED:
        return None
    return limit - usage + _droppable(folder)


def _droppable(folder: Path) -> int:
    """The group's file caches, which the system drops when memory is short."""
    try:
        fields = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return 0
    return int(fields.get("total_inactive_file", fields.get("inactive_file", 0)))


def _show(count: int) -> str:
    return f"{count / MIB:,.0f} MiB" if count < 10 * 1024 * MIB else f"{count / MIB / 1024:,.1f} GiB"
