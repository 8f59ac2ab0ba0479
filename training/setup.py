"""What every command that trains does first: device, recipe, starting weights, precision, torch's settings."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.device import find_device
from training.data.dataset import Dataset, TrackProgress, load_dataset
from training.device import configure_torch, resolve_precision
from training.finetune import InitialWeights, read_recipe_and_start
from training.flags import UsageError, given_settings
from training.recipe import Recipe


@dataclass(frozen=True, slots=True, eq=False)
class PreparedRun:
    """A recipe that says all that will be done, the weights that it starts from, and the device it runs on."""

    device: torch.device
    recipe: Recipe
    start: InitialWeights | None

    def load_dataset(self, root: Path, track: TrackProgress, **settings: Any) -> Dataset:
        """The recipe's data set, with other `settings` if there are any. Raises DataError."""
        preprocessing = self.start.preprocessing if self.start else None
        return load_dataset(self.recipe.with_settings(**settings), root, track, preprocessing)


def prepare_run(arguments: argparse.Namespace) -> PreparedRun:
    """The run that a command line asks for, with torch configured for it. Raises UsageError."""
    [run] = prepare_runs(arguments, {"": (arguments.recipe, {})}).values()
    return run


def prepare_runs(
    arguments: argparse.Namespace, variants: dict[str, tuple[str, dict[str, Any]]]
) -> dict[str, PreparedRun]:
    """A run for each variant: a recipe's name, and settings over those of the command line. Raises UsageError.

    torch is configured for all of them: its threads are those of the recipe that uses the most.
    """
    given = given_settings(arguments)
    runs = {}
    try:
        device = find_device(arguments.device)
        for name, (recipe_name, settings) in variants.items():
            recipe, start = read_recipe_and_start(arguments.data, {**given, **settings}, recipe_name)
            runs[name] = PreparedRun(device, resolve_precision(recipe, device), start)
    except ValueError as error:
        raise UsageError(error) from error
    configure_torch(max((run.recipe for run in runs.values()), key=lambda recipe: recipe.threads))
    return runs
