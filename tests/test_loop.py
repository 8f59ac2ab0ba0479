"""A training run: that it learns, that it can be repeated, and what it says of itself."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch

from models.golden import deviation
from models.preprocess import normalise
from training.config import Recipe, TrainingError, recipe_for
from training.data import Dataset, load
from training.loop import DivergedError, Record, Run, Step, Trained, describe, measure, train

T = TypeVar("T")
CPU = torch.device("cpu")


class Watcher:
    """Writes down what it sees."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.epochs: list[Record] = []

    def step(self, step: Step) -> None:
        self.steps.append(step)

    def epoch(self, record: Record) -> None:
        self.epochs.append(record)


def passing(items: Iterable[T], total: int, doing: str) -> Iterable[T]:
    return items


def digits(**settings: Any) -> tuple[Dataset, Recipe]:
    recipe = recipe_for("digits", {"width": 0.125, "precision": "float32", "epochs": 2, **settings})
    return load(recipe, Path("nowhere"), passing), recipe


def run(**settings: Any) -> tuple[Trained, Dataset, Recipe, Watcher]:
    dataset, recipe = digits(**settings)
    watcher = Watcher()
    return train(dataset, recipe, CPU, watcher), dataset, recipe, watcher


def test_a_short_run_learns() -> None:
    """Six epochs over the digits, a few seconds, get more than nine of ten held-out ones right."""
    trained, dataset, _, watcher = run(epochs=6, shrink=0.0, contrast=1.0, invert=False)
    assert trained.metrics["val"]["accuracy"] > 0.9
    assert trained.metrics["val"]["images"] == len(dataset.splits["val"])
    assert [record["epoch"] for record in trained.history] == [1, 2, 3, 4, 5, 6]
    assert trained.history == tuple(watcher.epochs)
    assert [step.number for step in watcher.steps] == list(range(1, watcher.steps[-1].steps + 1))


@pytest.mark.parametrize("architecture", ["vgg11_bn", "vgg11", "alexnet"])
def test_the_same_recipe_gives_the_same_weights(architecture: str) -> None:
    """Two runs end with equal weights, to the bit; another seed with others."""
    head = "paper" if architecture == "alexnet" else "pooled"
    settings = {"architecture": architecture, "head": head, "epochs": 1, "batch_size": 256, "rate": 0.01}
    first, second, other = (run(seed=seed, **settings)[0].model.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_every_image_is_seen_in_every_epoch() -> None:
    """Batches differ in size by one at most, and hold each training image once, in an order of their own."""
    dataset, recipe = digits(batch_size=100)
    run = Run(dataset, recipe, CPU)
    first, second = torch.cat(run.batches(0)), torch.cat(run.batches(1))
    assert torch.equal(first.sort().values, torch.arange(len(dataset.splits["train"])))
    assert not torch.equal(first, second)
    sizes = [len(batch) for batch in run.batches(0)]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= 100


def test_a_loss_that_is_no_number_ends_the_run() -> None:
    """Diverging is an error that says where, and at which rate."""
    dataset, recipe = digits()
    run = Run(dataset, recipe, CPU)
    with torch.no_grad():
        next(run.model.parameters()).fill_(float("nan"))
    with pytest.raises(DivergedError, match=r"nan in epoch 1, step 1, at a rate of"):
        run.epoch(0, Watcher())


def test_the_description_says_how_it_was_made() -> None:
    """The checkpoint has recipe, seed, data fingerprint, history, metrics, and a golden sample that fits."""
    trained, dataset, recipe, _ = run(epochs=1, seed=3)
    description = describe(trained, dataset, recipe)
    assert (description.seed, description.recipe["epochs"]) == (3, 1)
    assert description.dataset["fingerprint"] == dataset.fingerprint
    assert description.dataset["splits"] == {name: len(split) for name, split in dataset.splits.items()}
    assert description.metrics["val"] == trained.metrics["val"]
    assert len(description.history) == 1
    first = dataset.splits["val"].images[:1]
    logits = trained.model(normalise(first, dataset.preprocessing))[0].detach()
    assert deviation(description.golden, logits) < 1e-5


def test_measures_are_what_they_are_called() -> None:
    """Accuracy is the share of right answers, the loss the mean cross-entropy in nats."""
    logits = torch.tensor([[0.0, 0.0], [0.0, 0.0], [9.0, -9.0]])
    measured = measure(logits, torch.tensor([0, 1, 0]))
    assert measured["accuracy"] == pytest.approx(2 / 3)
    assert measured["loss"] == pytest.approx(2 / 3 * 0.6931, abs=1e-3)


class Full(Watcher):
    """Lets the device's memory run out at the first step."""

    def step(self, step: Step) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate ...")


def test_too_little_memory_is_one_line() -> None:
    """What the device cannot hold ends the run with a line that says what may help."""
    dataset, recipe = digits()
    with pytest.raises(TrainingError, match="cpu is out of memory; a smaller batch_size"):
        train(dataset, recipe, CPU, Full())
