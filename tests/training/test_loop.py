"""A training run: that it learns, that it can be repeated, and what it says of itself."""

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch

from models.golden import largest_probability_change
from models.normalise import normalise
from training.data.dataset import Dataset, Split, load_dataset
from training.distributed import Processes
from training.errors import TrainingError
from training.loop import DivergedError, Record, Run, Step, Trained, train
from training.recipe import Recipe
from training.recipes import make_recipe
from training.results import build_metadata

T = TypeVar("T")
ALONE = Processes(0, 1, torch.device("cpu"))


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
    recipe = make_recipe("digits", {"width": 0.125, "precision": "float32", "epochs": 2, **settings})
    return load_dataset(recipe, Path("nowhere"), passing), recipe


def run(**settings: Any) -> tuple[Trained, Dataset, Recipe, Watcher]:
    dataset, recipe = digits(**settings)
    watcher = Watcher()
    return train(dataset, recipe, ALONE, watcher), dataset, recipe, watcher


def test_a_short_run_learns() -> None:
    """Six epochs over the digits, a few seconds, get more than nine of ten held-out ones right."""
    trained, _, _, watcher = run(epochs=6, shrink=0.0, contrast=1.0, invert=False)
    assert trained.history[-1]["val_accuracy"] > 0.9
    assert [record["epoch"] for record in trained.history] == [1, 2, 3, 4, 5, 6]
    assert trained.history == tuple(watcher.epochs)
    assert [step.number for step in watcher.steps] == list(range(1, watcher.steps[-1].steps + 1))


@pytest.mark.parametrize("architecture", ["vgg11_bn", "vgg11", "alexnet"])
def test_the_same_recipe_gives_the_same_weights(architecture: str) -> None:
    """Two runs end with equal weights, to the bit; another seed with others."""
    head = "paper" if architecture == "alexnet" else "pooled"
    settings = {"architecture": architecture, "head": head, "epochs": 1, "batch_size": 256, "lr": 0.01}
    first, second, other = (run(seed=seed, **settings)[0].model.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_every_image_is_seen_in_every_epoch() -> None:
    """Batches differ in size by one at most, and hold each training image once, in an order of their own."""
    dataset, recipe = digits(batch_size=100)
    run = Run(dataset, recipe, ALONE)
    first, second = torch.cat(run.batches(0)), torch.cat(run.batches(1))
    assert torch.equal(first.sort().values, torch.arange(len(dataset.splits["train"])))
    assert not torch.equal(first, second)
    sizes = [len(batch) for batch in run.batches(0)]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= 100


def test_a_loss_that_is_no_number_ends_the_run() -> None:
    """Diverging is an error that says where, and at which rate."""
    dataset, recipe = digits()
    run = Run(dataset, recipe, ALONE)
    with torch.no_grad():
        next(run.model.parameters()).fill_(float("nan"))
    with pytest.raises(DivergedError, match=r"nan in epoch 1, step 1, at a learning rate of"):
        run.step()


def test_the_description_says_how_it_was_made() -> None:
    """The checkpoint has recipe, seed, data fingerprint, history, metrics, and a golden sample that fits."""
    trained, dataset, recipe, _ = run(epochs=1, seed=3)
    metadata, evaluation = build_metadata(trained, dataset, recipe)
    assert (metadata.seed, metadata.recipe["epochs"]) == (3, 1)
    assert metadata.dataset["fingerprint"] == dataset.fingerprint
    assert {name: split["images"] for name, split in metadata.dataset["splits"].items()} == {
        name: len(split) for name, split in dataset.splits.items()
    }
    assert metadata.metrics["val"]["accuracy"] == trained.history[-1]["val_accuracy"]
    assert metadata.metrics["test"]["images"] == len(dataset.splits["test"]) == len(evaluation.predicted)
    assert len(metadata.history) == 1
    first = dataset.splits["val"].images[:1]
    said = trained.model(normalise(first, dataset.preprocessing))[0].detach()
    assert largest_probability_change(metadata.golden, said) < 1e-5


def test_classes_can_be_drawn_evenly() -> None:
    """With balanced sampling a rare class is drawn as often as any other, in batches of the same sizes."""
    dataset, recipe = digits(balance="sampling", batch_size=100)
    labels = dataset.splits["train"].labels
    rare = labels.clone()
    rare[labels != 3] = 0  # about 108 threes, and all the rest zeros
    run = Run(
        replace(dataset, splits={**dataset.splits, "train": Split(dataset.splits["train"].images, rare)}), recipe, ALONE
    )
    drawn = rare[torch.cat(run.batches(0))]
    assert len(drawn) == len(rare)
    assert 0.4 < (drawn == 3).double().mean() < 0.6


def test_classes_can_weigh_alike() -> None:
    """With weights each class has the same share of the loss, and the mean weight of an image is 1."""
    dataset, recipe = digits(balance="weights", label_smoothing=0.0)
    run = Run(dataset, recipe, ALONE)
    labels = run.train.labels
    shares = torch.bincount(labels, run.class_weights[labels].double())
    assert torch.allclose(shares, shares.mean().expand(10))
    assert float(run.class_weights[labels].mean()) == pytest.approx(1)
    logits = torch.zeros(len(labels), 10)
    assert run.losses(logits, labels) == pytest.approx(len(labels) * math.log(10), rel=1e-5)
    assert run.losses(logits[:1], labels[:1]) == pytest.approx(float(run.class_weights[labels[0]]) * math.log(10))


class Full(Watcher):
    """Lets the device's memory run out at the first step."""

    def step(self, step: Step) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate ...")


def test_too_little_memory_is_one_line() -> None:
    """What the device cannot hold ends the run with a line that says what may help."""
    dataset, recipe = digits()
    with pytest.raises(TrainingError, match="cpu is out of memory; a smaller batch_size"):
        train(dataset, recipe, ALONE, Full())
