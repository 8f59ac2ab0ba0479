"""The metadata of a run's checkpoint: which split gives which result."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.metadata import CheckpointMetadata
from tests.fakes.runs import ALONE, Killer, digits
from training.data.dataset import Dataset, Split
from training.errors import TrainingError
from training.evaluation.calibration import CalibrationError
from training.loop import Trained, train
from training.recipe import Recipe
from training.results import TRAINING_SAMPLE, build_metadata, check_calibration, name_data


@pytest.fixture(scope="module")
def run() -> tuple[Trained, Dataset, Recipe]:
    dataset, recipe = digits(epochs=3, seed=3, shrink=0.0, contrast=1.0, invert=False, batch_size=64)
    return train(dataset, recipe, ALONE, Killer()), dataset, recipe


def test_calibration_and_metrics_use_different_splits(run: tuple[Trained, Dataset, Recipe]) -> None:
    """The temperature and the tables come from the calibration split, the metrics from the test split."""
    metadata, evaluation = build_metadata(*run)
    _, dataset, _ = run
    assert metadata.calibration is not None
    assert metadata.calibration.images == len(dataset.splits["calibration"])
    test = metadata.metrics["test"]
    assert test["images"] == len(dataset.splits["test"]) == len(evaluation.predicted)
    assert test == evaluation.metrics
    assert test["nll"] <= test["nll_uncalibrated"] + 0.05
    assert test["coverage_95"] > 0.85
    correct = (evaluation.served.probabilities.argmax(1) == dataset.splits["test"].labels).double().mean()
    assert test["accuracy"] == pytest.approx(float(correct))
    assert metadata.metrics["calibration"] == {"images": metadata.calibration.images}
    assert "coverage_95" not in metadata.metrics["val"]


def test_without_a_calibration_split_there_is_none(run: tuple[Trained, Dataset, Recipe]) -> None:
    """Then the temperature is 1. Without a test split the metrics are those of `val`."""
    trained, dataset, recipe = run
    splits = {name: dataset.splits[name] for name in ("train", "val")}
    metadata, evaluation = build_metadata(trained, replace(dataset, splits=splits), recipe)
    assert (metadata.temperature, metadata.calibration) == (1.0, None)
    assert (evaluation.split_name, evaluation.coverage_results) == ("val", [])
    assert list(metadata.metrics) == ["val"]
    assert len(evaluation.predicted) == len(splits["val"])


def test_a_calibration_split_that_is_too_small_is_refused_before_training(run: tuple[Trained, Dataset, Recipe]) -> None:
    """A data set can bring its own calibration split, with fewer images than a calibration needs."""
    _, dataset, _ = run
    few = Split(dataset.splits["val"].images[:5], torch.zeros(5, dtype=torch.int64))
    with pytest.raises(CalibrationError, match="has 5 images, but needs at least 20"):
        check_calibration(replace(dataset, splits={**dataset.splits, "calibration": few}))


def test_the_metadata_describe_the_data_set(run: tuple[Trained, Dataset, Recipe]) -> None:
    """They have the size and fingerprint of each split, and the number of duplicates across splits."""
    metadata, _ = build_metadata(*run)
    _, dataset, recipe = run
    assert isinstance(metadata, CheckpointMetadata)
    assert metadata.dataset["fingerprint"] == dataset.fingerprint
    assert metadata.dataset["splits"] == {
        name: {"images": len(split), "fingerprint": dataset.fingerprints[name]}
        for name, split in dataset.splits.items()
    }
    assert metadata.dataset["duplicates"] == dataset.duplicates.counts
    assert metadata.recipe["calibration"] == recipe.calibration


def test_no_folder_of_the_machine_is_recorded(run: tuple[Trained, Dataset, Recipe], tmp_path: Path) -> None:
    """Data and starting checkpoint are known by their last name, and by what is in them."""
    trained, dataset, recipe = run
    data = f"folder:{tmp_path}/pets/"
    metadata, _ = build_metadata(trained, replace(dataset, name=data), recipe.with_settings(data=data))
    assert metadata.recipe["data"] == metadata.dataset["name"] == "folder:pets"
    assert str(tmp_path) not in repr(metadata)
    sample = metadata.dataset[TRAINING_SAMPLE].split()
    assert len(sample) == 16
    assert set(sample) <= dataset.images["train"].keys()
    assert name_data("digits") == "digits"


def broken_history(trained: Trained, dataset: Dataset) -> tuple[Trained, Dataset]:
    return replace(trained, history=({**trained.history[0], "val_accuracy": math.nan},)), dataset


def broken_weights(trained: Trained, dataset: Dataset) -> tuple[Trained, Dataset]:
    model = copy.deepcopy(trained.model)
    list(model.parameters())[-1].data[0] = -math.inf
    return replace(trained, model=model), dataset


def broken_logits(trained: Trained, dataset: Dataset) -> tuple[Trained, Dataset]:
    model = copy.deepcopy(trained.model)
    list(model.parameters())[-1].data.fill_(math.nan)
    return replace(trained, model=model), dataset


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (broken_history, "epoch 1 val_accuracy is nan, but must be finite, so nothing is written"),
        (broken_weights, "are not finite"),
        (broken_logits, "the logits are not finite for images of val, so nothing is written"),
    ],
)
def test_what_is_not_finite_is_never_written(
    run: tuple[Trained, Dataset, Recipe],
    change: Callable[[Trained, Dataset], tuple[Trained, Dataset]],
    message: str,
) -> None:
    """Weights, logits, metrics and history: the line names what is not finite."""
    trained, dataset = change(*run[:2])
    with pytest.raises(TrainingError, match=message):
        build_metadata(trained, dataset, run[2])
