"""Short training runs on the digits, and one that is killed at a step."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch

from training.data.dataset import Dataset, load_dataset
from training.distributed import Processes
from training.loop import Record, Step
from training.recipe import Recipe
from training.recipes import make_recipe

T = TypeVar("T")
ALONE = Processes(0, 1, torch.device("cpu"))


class KilledError(Exception):
    """The end of a process, without a word."""


class Killer:
    """Ends a run at the step of this number, as SIGKILL would: nothing of the run is asked any more."""

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def step(self, step: Step) -> None:
        if step.number == self.number:
            raise KilledError

    def epoch(self, record: Record) -> None:
        pass


def passing(items: Iterable[T], total: int, doing: str) -> Iterable[T]:
    return items


def digits(**settings: Any) -> tuple[Dataset, Recipe]:
    small = {"width": 0.125, "precision": "float32", "epochs": 2, "batch_size": 300, "threads": 1}
    recipe = make_recipe("digits", {**small, **settings})
    return load_dataset(recipe, Path("nowhere"), passing), recipe
