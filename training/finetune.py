"""A network that does not begin with random weights.

Owns reading the weights that a run starts from, taking what fits, saying what was taken, and keeping it as it is.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.checkpoint import VERSION_DIGITS, CheckpointError, is_checkpoint, read_checkpoint
from models.networks.registry import Architecture, build_network
from models.preprocess import Preprocessing
from models.presets import PRESETS
from models.state_dicts.importing import Expected, import_weights
from models.state_dicts.reading import find_weights_file
from training.errors import TrainingError
from training.recipe import STORED, Recipe
from training.recipes import make_recipe, read_named_recipe

HEAD = "head"  # the name of what every network of models/ has behind its features


@dataclass(frozen=True, slots=True, eq=False)
class InitialWeights:
    """What a run starts from: a checkpoint, or published weights.

    `state` has no head where the file had no classifier. `labels` is None where the file does not tell them. `origin`
    says in words what was read. `version` is the first 12 hex digits of the file's SHA-256.
    """

    path: Path
    origin: str
    architecture: Architecture
    preprocessing: Preprocessing
    labels: tuple[str, ...] | None
    state: dict[str, Tensor]
    version: str


def settings_of_weights(start: InitialWeights) -> dict[str, Any]:
    """What a recipe has to be for a network to take the weights and see images as it did."""
    a = start.architecture
    return {
        "crop": start.preprocessing.crop,
        "architecture": a.name,
        "head": a.head,
        "width": a.width,
        "channels": a.in_channels,
        "size": a.input_size,
    }


def read_recipe_and_start(data: str, given: dict[str, Any], name: str) -> tuple[Recipe, InitialWeights | None]:
    """The recipe `name` with what is `given`, and the weights that its `init` names. Raises ValueError."""
    chosen = {**read_named_recipe(name), **given}
    start = read_initial_weights(Path(chosen["init"]), chosen) if chosen.get("init") else None
    recipe = make_recipe(data, given, name, settings_of_weights(start) if start else None)
    if start and recipe.channels != start.architecture.in_channels:
        raise ValueError(f"channels is {recipe.channels}, but {start.path} is for {start.architecture.in_channels}")
    return recipe, start


def read_initial_weights(path: Path, settings: dict[str, Any]) -> InitialWeights:
    """The weights in `path`: a checkpoint, or any file that `models.convert` reads, or a folder with one.

    Of the recipe's `settings`, `init_preprocessing` must say how images are prepared for weights that are no
    checkpoint, `init_which` chooses among several networks, and `architecture` and `size` are expected. Raises
    ValueError.
    """
    preset, which = settings.get("init_preprocessing", STORED), settings.get("init_which", "")
    try:
        file = find_weights_file(path)
        is_ours = is_checkpoint(file)
    except OSError as error:
        raise CheckpointError(path, (error.strerror or str(error)).lower()) from error
    except ValueError as error:
        raise CheckpointError(path, str(error)) from error
    if is_ours:
        if preset != STORED or which:
            name, value = ("init_which", which) if which else ("init_preprocessing", preset)
            raise ValueError(f"{name} is {value!r}, but {path} is a checkpoint, which tells its own")
        return _read_checkpoint(file)
    if preset not in PRESETS:
        raise ValueError(
            f"init_preprocessing is {preset!r}, but {path} does not tell how images are prepared; "
            f"it must be one of {', '.join(PRESETS)}"
        )
    return _read_published(path, file, PRESETS[preset], settings)


def load_weights(model: nn.Module, start: InitialWeights, labels: tuple[str, ...]) -> None:
    """Gives the network the weights: its features', and of its head what fits.

    The last layer's are taken if the labels are the same. Raises TrainingError where the features do not fit.
    """
    model.load_state_dict({**model.state_dict(), **_select_fitting(model, start, labels)})


def describe_weights(start: InitialWeights, architecture: Architecture, labels: tuple[str, ...]) -> str:
    """A line that says what a network takes of the weights and what begins anew. Raises as `load_weights` does."""
    with torch.device("meta"):
        model = build_network(architecture)
    fitting = _select_fitting(model, start, labels)
    layers = dict.fromkeys(name.rpartition(".")[0] for name in model.state_dict())
    new = [layer for layer in layers if not any(name.rpartition(".")[0] == layer for name in fitting)]
    line = f"starts from {start.path}: {start.origin}; takes {len(layers) - len(new)} of {len(layers)} layers"
    if not new:
        return line
    has = "other" if start.labels else "unnamed" if any(name.startswith(HEAD) for name in start.state) else "no"
    return f"{line}; new: {', '.join(new)} (for {len(labels)} labels, where the file has {has} labels)"


def freeze_features(model: nn.Module) -> None:
    """Keeps all but the head as it is, BatchNorm's statistics too."""
    for name, part in model.named_children():
        if name != HEAD:
            part.requires_grad_(requires_grad=False).eval()


def _read_checkpoint(path: Path) -> InitialWeights:
    found = read_checkpoint(path)
    d = found.metadata
    origin = f"{d.architecture.name}, checkpoint {found.version}"
    return InitialWeights(path, origin, d.architecture, d.preprocessing, d.labels, found.state, found.version)


def _read_published(path: Path, file: Path, preset: Preprocessing, settings: dict[str, Any]) -> InitialWeights:
    found = import_weights(
        path,
        Expected(
            settings.get("architecture"),
            input_size=settings.get("size"),
            which=settings.get("init_which") or None,
            needs_classifier=False,
            default_size=preset.size,
        ),
    )
    size = found.architecture.input_size
    with file.open("rb") as opened:
        version = hashlib.file_digest(opened, "sha256").hexdigest()[:VERSION_DIGITS]
    preprocessing = replace(preset, size=size, resize=round(preset.resize * size / preset.size))
    return InitialWeights(
        path, found.origin, found.architecture, preprocessing, None, found.model.state_dict(), version
    )


def _select_fitting(model: nn.Module, start: InitialWeights, labels: tuple[str, ...]) -> dict[str, Tensor]:
    wanted, found = model.state_dict(), start.state
    last = {f"{HEAD}.{len(model.get_submodule(HEAD)) - 1}.{name}" for name in ("weight", "bias")}  # type: ignore[arg-type]
    fitting = {name: found[name] for name in wanted if name in found and found[name].shape == wanted[name].shape}
    for name in wanted:
        if name not in fitting and not name.startswith(f"{HEAD}."):
            has = tuple(found[name].shape) if name in found else "missing"
            raise TrainingError(
                f"{start.path}: tensor {name} is {has}, but the recipe's is {tuple(wanted[name].shape)}"
            )
    return fitting if labels == start.labels else {name: t for name, t in fitting.items() if name not in last}
