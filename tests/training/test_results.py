"""The metadata of a run's checkpoint: which split gives which result."""

from dataclasses import replace

import pytest
import torch

from models.metadata import CheckpointMetadata
from tests.fakes.runs import ALONE, Killer, digits
from training.data.dataset import Dataset, Split
from training.evaluation.calibration import CalibrationError
from training.loop import Trained, train
from training.recipe import Recipe
from training.results import build_metadata, check_calibration


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
