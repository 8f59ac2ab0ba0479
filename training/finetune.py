"""A network that does not begin with random weights.

Owns taking them from a checkpoint, and keeping them as they are.
"""

from pathlib import Path
from typing import Any

from torch import nn

from models.checkpoint import Checkpoint, read_checkpoint
from training.errors import TrainingError
from training.recipe import Recipe
from training.recipes import make_recipe, read_named_recipe

HEAD = "head"  # the name of what every network of models/ has behind its features


def settings_of_checkpoint(start: Checkpoint) -> dict[str, Any]:
    """What a recipe has to be for a network to take the checkpoint's weights and see images as it did."""
    a = start.metadata.architecture
    return {
        "crop": start.metadata.preprocessing.crop,
        "architecture": a.name,
        "head": a.head,
        "width": a.width,
        "channels": a.in_channels,
        "size": a.input_size,
    }


def read_recipe_and_start(data: str, given: dict[str, Any], name: str) -> tuple[Recipe, Checkpoint | None]:
    """The recipe `name` with what is `given`, and the checkpoint that its `init` names. Raises ValueError."""
    init = {**read_named_recipe(name), **given}.get("init")
    start = read_checkpoint(Path(init)) if init else None
    return make_recipe(data, given, name, settings_of_checkpoint(start) if start else None), start


def load_weights(model: nn.Module, start: Checkpoint, labels: tuple[str, ...]) -> None:
    """Gives the network the checkpoint's weights: its features', and of its head what fits.

    The last layer's are taken if the labels are the same. Raises TrainingError where the features do not fit.
    """
    wanted, found = model.state_dict(), start.state
    last = {f"{HEAD}.{len(model.get_submodule(HEAD)) - 1}.{name}" for name in ("weight", "bias")}  # type: ignore[arg-type]
    fitting = {name: found[name] for name in wanted if name in found and found[name].shape == wanted[name].shape}
    for name in wanted:
        if name not in fitting and not name.startswith(f"{HEAD}."):
            has = tuple(found[name].shape) if name in found else "missing"
            raise TrainingError(
                f"{start.path}: tensor {name} is {has}, but the recipe's is {tuple(wanted[name].shape)}"
            )
    if labels != start.metadata.labels:
        fitting = {name: tensor for name, tensor in fitting.items() if name not in last}
    model.load_state_dict({**wanted, **fitting})


def freeze_features(model: nn.Module) -> None:
    """Keeps all but the head as it is, BatchNorm's statistics too."""
    for name, part in model.named_children():
        if name != HEAD:
            part.requires_grad_(requires_grad=False).eval()
