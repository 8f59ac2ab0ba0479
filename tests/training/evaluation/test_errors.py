"""The numbers of a report: counted as others count them."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest  # type: ignore[import-untyped]
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, precision_recall_fscore_support

from models.checkpoint import CheckpointMetadata
from models.golden import GoldenSample
from models.networks.registry import Architecture
from models.preprocess import Preprocessing
from training.data.dataset import Split
from training.evaluation.errors import (
    ConfusedPair,
    Evaluation,
    balanced_accuracy,
    evaluate_predictions,
    most_confused,
    per_class_results,
    wilson_interval,
    worst_mistakes,
)


def findings(logits: torch.Tensor, labels: list[int], **changes: Any) -> Evaluation:
    """What is found in the logits of black images."""
    classes = logits.shape[1]
    description = CheckpointMetadata(
        architecture=Architecture("vgg11_bn", classes, input_size=32),
        labels=tuple(map(str, range(classes))),
        preprocessing=Preprocessing(32, 32, (0.0,) * 3, (1.0,) * 3),
        golden=GoldenSample(b"", (0.0,) * classes),
    )
    images = torch.zeros(len(labels), 32, 32, 3, dtype=torch.uint8)
    return evaluate_predictions(
        dataclasses.replace(description, **changes), Split(images, torch.tensor(labels)), logits
    )


@pytest.mark.parametrize(("right", "total"), [(0, 1), (1, 1), (0, 40), (40, 40), (351, 360), (9_416, 10_000)])
def test_the_interval_is_that_of_others(right: int, total: int) -> None:
    """It is scipy's, lies within 0 and 1, and never leaves the share itself out."""
    low, high = wilson_interval(right, total)
    expected = binomtest(right, total).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-7)
    assert 0 <= low <= right / total <= high <= 1


def test_labels_are_counted_as_others_count() -> None:
    """Confusions, precision, recall, F1 and balanced accuracy are scikit-learn's."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(5, (200,), generator=generator)
    logits = torch.randn(200, 5, generator=generator) + 2 * torch.eye(5)[labels]
    found, given = findings(logits, labels.tolist()), logits.argmax(1)
    assert np.array_equal(found.counts.numpy(), confusion_matrix(labels, given))
    precision, recall, f1, images = precision_recall_fscore_support(labels, given)
    results = per_class_results(found.counts)
    assert [result.precision for result in results] == pytest.approx(list(precision))
    assert [result.recall for result in results] == pytest.approx(list(recall))
    assert [result.f1 for result in results] == pytest.approx(list(f1))
    assert [result.images for result in results] == list(images)
    assert balanced_accuracy(found.counts) == pytest.approx(balanced_accuracy_score(labels, given))


def test_what_cannot_be_divided_is_none() -> None:
    """A label that was never given has no precision, one without images no recall, and it does not count."""
    never_given, no_images = per_class_results(torch.tensor([[0, 3], [0, 0]]))
    assert (never_given.precision, never_given.recall, never_given.f1) == (None, 0, 0)
    assert (no_images.precision, no_images.recall, no_images.f1) == (0, None, 0)
    assert per_class_results(torch.zeros(2, 2, dtype=torch.int64))[0].f1 is None
    assert balanced_accuracy(torch.tensor([[3, 1], [0, 0]])) == 0.75


def test_pairs_come_by_how_often_they_are_confused() -> None:
    """The largest first, equal ones in the labels' order, and none that never happened."""
    counts = torch.tensor([[9, 1, 0], [0, 1, 3], [1, 0, 0]])
    assert most_confused(counts, 2) == [ConfusedPair(1, 2, 3, 0.75), ConfusedPair(0, 1, 1, 0.1)]
    assert most_confused(counts, 9)[2:] == [ConfusedPair(2, 0, 1, 1.0)]
    assert most_confused(torch.eye(3, dtype=torch.int64), 9) == []


def test_the_worst_mistakes_are_the_surest_ones() -> None:
    """Sorted by the probability that the service would give, at the checkpoint's temperature."""
    logits = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 9.0], [0.0, 3.0]])
    found = worst_mistakes(findings(logits, [1, 0, 1, 0], temperature=2.0), 2)
    assert [(m.number, m.right, m.given) for m in found] == [(3, 0, 1), (1, 0, 1)]
    assert found[0].probability == pytest.approx(float(torch.tensor(1.5).sigmoid()))


def test_the_split_is_called_by_its_name() -> None:
    """It is `test` where the description has figures of one, else `val`."""
    logits = torch.zeros(1, 2)
    assert findings(logits, [0], metrics={"val": {}, "test": {}}).name == "test"
    assert findings(logits, [0], metrics={"val": {}}).name == "val"
