"""What is measured of logits."""

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from training.evaluation.metrics import accuracy_metrics


def test_measures_are_what_they_are_called() -> None:
    """Accuracy is the share of right answers, the loss the mean cross-entropy in nats."""
    logits = torch.tensor([[0.0, 0.0], [0.0, 0.0], [9.0, -9.0]])
    measured = accuracy_metrics(logits, torch.tensor([0, 1, 0]))
    assert measured["accuracy"] == pytest.approx(2 / 3)
    assert measured["loss"] == pytest.approx(2 / 3 * 0.6931, abs=1e-3)


def test_balanced_accuracy_counts_classes_alike() -> None:
    """It is scikit-learn's, and does not fall for a class that is most of the images."""
    logits = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    labels = torch.multinomial(torch.tensor([0.8, 0.05, 0.05, 0.05, 0.05]), 200, replacement=True)
    measured = accuracy_metrics(logits, labels)
    assert measured["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, logits.argmax(1)))
    one_class = accuracy_metrics(torch.tensor([[1.0, 0.0]] * 10), torch.tensor([0] * 9 + [1]))
    assert (one_class["accuracy"], one_class["balanced_accuracy"]) == (0.9, 0.5)
