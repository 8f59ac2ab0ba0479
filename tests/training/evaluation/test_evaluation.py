"""One evaluation has all measures of a split."""

import pytest
import torch
from torch import Tensor

from models.probabilities import softmax
from tests.fakes.logits import draw_logits
from training.data.dataset import Split
from training.evaluation.calibration import calibrate
from training.evaluation.evaluation import evaluate_predictions
from training.evaluation.metrics import COVERAGES


def black_split(labels: Tensor) -> Split:
    """Labels of images that the tests do not look at."""
    return Split(torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8), labels)


def test_without_a_calibration_only_accuracies_and_loss_are_recorded() -> None:
    """The probabilities are measured all the same, at the temperature of the checkpoint and at 1."""
    logits, labels = draw_logits(50, seed=0)
    evaluation = evaluate_predictions("val", black_split(labels), logits, temperature=2.0)
    assert (evaluation.split_name, evaluation.temperature, evaluation.coverage_results) == ("val", 2.0, [])
    assert list(evaluation.metrics) == ["images", "accuracy", "balanced_accuracy", "loss"]
    assert torch.equal(evaluation.served.probabilities, softmax(logits, 2.0))
    assert torch.equal(evaluation.uncalibrated.probabilities, softmax(logits))
    assert evaluation.uncalibrated.nll == evaluation.metrics["loss"] != evaluation.served.nll


def test_a_calibration_improves_an_overconfident_network() -> None:
    """NLL, Brier score and ECE of other images fall, each coverage is reached, and larger ones need larger sets."""
    temperature, calibration = calibrate(*draw_logits(3_000, seed=0, factor=3.0))
    logits, labels = draw_logits(3_000, seed=1, factor=3.0)
    metrics = evaluate_predictions("test", black_split(labels), logits, temperature, calibration).metrics
    for name in ("nll", "brier", "ece"):
        assert metrics[name] < metrics[f"{name}_uncalibrated"]
    assert metrics["ece"] < 0.03
    assert [metrics[f"coverage_{c}"] for c in (80, 90, 95, 99)] == pytest.approx(COVERAGES, abs=0.02)
    sizes = [metrics[f"set_size_{c}"] for c in (80, 90, 95, 99)]
    assert 1 <= sizes[0] < sizes[1] < sizes[2] < sizes[3] <= 5
    assert metrics.pop("images") == 3_000
    assert all(isinstance(value, float) for value in metrics.values())
