"""The measures of a network on a split, compared with other libraries or counted by hand."""

import math

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, log_loss
from torchmetrics.classification import MulticlassCalibrationError

from models.probabilities import Calibration
from tests.fakes.logits import draw_logits
from training.evaluation.metrics import (
    CoverageResult,
    accuracy_metrics,
    expected_calibration_error,
    measure_coverage,
    probability_metrics,
    reliability_bins,
)


def test_accuracy_and_loss() -> None:
    """Accuracy is the share of correct images. The loss is the mean cross-entropy in nats."""
    logits = torch.tensor([[0.0, 0.0], [0.0, 0.0], [9.0, -9.0]])
    metrics = accuracy_metrics(logits, torch.tensor([0, 1, 0]))
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    assert metrics["loss"] == pytest.approx(2 / 3 * 0.6931, abs=1e-3)


def test_balanced_accuracy_weighs_classes_equally() -> None:
    """It equals scikit-learn's. A class that has most of the images does not dominate it."""
    logits = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    labels = torch.multinomial(torch.tensor([0.8, 0.05, 0.05, 0.05, 0.05]), 200, replacement=True)
    metrics = accuracy_metrics(logits, labels)
    assert metrics["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, logits.argmax(1)))
    one_class = accuracy_metrics(torch.tensor([[1.0, 0.0]] * 10), torch.tensor([0] * 9 + [1]))
    assert (one_class["accuracy"], one_class["balanced_accuracy"]) == (0.9, 0.5)


@pytest.mark.parametrize("classes", [2, 10])
def test_probability_metrics_are_those_of_other_libraries(classes: int) -> None:
    """ECE equals that of torchmetrics with 15 bins. NLL and Brier score equal those of scikit-learn."""
    logits, labels = draw_logits(2_000, seed=0, factor=2.0, classes=classes)
    metrics = probability_metrics(logits, labels, 1.3)
    ece = MulticlassCalibrationError(classes, n_bins=15, norm="l1")(metrics.probabilities, labels)
    assert metrics.ece == pytest.approx(float(ece), abs=1e-6)
    exact = (logits.double() / 1.3).softmax(1).numpy()
    names = list(range(classes))
    assert metrics.nll == pytest.approx(log_loss(labels.numpy(), exact, labels=names))
    expected = brier_score_loss(labels.numpy(), exact, labels=names, scale_by_half=False)
    assert metrics.brier == pytest.approx(expected, abs=1e-6)


def test_reliability_bins_counted_by_hand() -> None:
    """Four bins, of which one is empty, and confidences of 1/2 (on an edge), 3/4, 3/4 and 1."""
    probabilities = torch.tensor([[0.5, 0.25, 0.25], [0.75, 0.25, 0.0], [0.0, 0.75, 0.25], [0.0, 0.0, 1.0]])
    bins = reliability_bins(probabilities, torch.tensor([0, 1, 1, 2]), bins=4)
    assert [(b.low, b.high, b.images) for b in bins] == [(0, 0.25, 0), (0.25, 0.5, 1), (0.5, 0.75, 2), (0.75, 1, 1)]
    assert [(b.confidence, b.accuracy) for b in bins[1:]] == [(0.5, 1.0), (0.75, 0.5), (1.0, 1.0)]
    assert math.isnan(bins[0].confidence)
    assert expected_calibration_error(bins) == (0.5 + 2 * 0.25) / 4


def test_coverage_counted_by_hand() -> None:
    """With a threshold of 3/4 the sets have 2, 2 and 1 labels, and two of three contain the true one."""
    calibration = Calibration(kind="lac", images=9, scores=(0.75,) * 9, energies=(0.0,) * 9)
    probabilities = torch.tensor([[0.5, 0.25, 0.25 - 1e-6, 1e-6], [0.25, 0.5, 0.125, 0.125], [0.9, 0.1, 0.0, 0.0]])
    assert measure_coverage(probabilities, torch.tensor([1, 2, 0]), calibration, 0.9) == CoverageResult(
        0.9, 2 / 3, 5 / 3
    )
