"""The errors of a network, compared with other libraries or counted by hand."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest  # type: ignore[import-untyped]
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, precision_recall_fscore_support

from training.data.dataset import Split
from training.evaluation.errors import (
    ConfusedPair,
    most_confused,
    per_class_results,
    wilson_interval,
    worst_mistakes,
)
from training.evaluation.evaluation import Evaluation, evaluate_predictions
from training.evaluation.metrics import balanced_accuracy


def evaluate(logits: torch.Tensor, labels: list[int], temperature: float = 1.0) -> Evaluation:
    """The evaluation of these logits for black images."""
    images = torch.zeros(len(labels), 32, 32, 3, dtype=torch.uint8)
    return evaluate_predictions("test", Split(images, torch.tensor(labels)), logits, temperature)


@pytest.mark.parametrize(("correct", "total"), [(0, 1), (1, 1), (0, 40), (40, 40), (351, 360), (9_416, 10_000)])
def test_the_interval_is_that_of_scipy(correct: int, total: int) -> None:
    """It lies within 0 and 1 and always contains the share."""
    low, high = wilson_interval(correct, total)
    expected = binomtest(correct, total).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-7)
    assert 0 <= low <= correct / total <= high <= 1


def test_results_by_label_are_those_of_scikit_learn() -> None:
    """This holds for the confusion matrix, precision, recall, F1 and balanced accuracy."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(5, (200,), generator=generator)
    logits = torch.randn(200, 5, generator=generator) + 2 * torch.eye(5)[labels]
    counts, predicted = evaluate(logits, labels.tolist()).counts, logits.argmax(1)
    assert np.array_equal(counts.numpy(), confusion_matrix(labels, predicted))
    precision, recall, f1, images = precision_recall_fscore_support(labels, predicted)
    results = per_class_results(counts)
    assert [result.precision for result in results] == pytest.approx(list(precision))
    assert [result.recall for result in results] == pytest.approx(list(recall))
    assert [result.f1 for result in results] == pytest.approx(list(f1))
    assert [result.images for result in results] == list(images)
    balanced = balanced_accuracy(counts.diag(), counts.sum(1))
    assert balanced == pytest.approx(balanced_accuracy_score(labels, predicted))


def test_a_division_by_zero_gives_none() -> None:
    """A label that is never predicted has no precision. A label without images has no recall."""
    never_predicted, no_images = per_class_results(torch.tensor([[0, 3], [0, 0]]))
    assert (never_predicted.precision, never_predicted.recall, never_predicted.f1) == (None, 0, 0)
    assert (no_images.precision, no_images.recall, no_images.f1) == (0, None, 0)
    assert per_class_results(torch.zeros(2, 2, dtype=torch.int64))[0].f1 is None
    assert balanced_accuracy(torch.tensor([3, 0]), torch.tensor([4, 0])) == 0.75


def test_confused_pairs_are_sorted_by_frequency() -> None:
    """The most frequent is first, equal ones are in the order of the labels, and pairs without images are left out."""
    counts = torch.tensor([[9, 1, 0], [0, 1, 3], [1, 0, 0]])
    assert most_confused(counts, 2) == [ConfusedPair(1, 2, 3, 0.75), ConfusedPair(0, 1, 1, 0.1)]
    assert most_confused(counts, 9)[2:] == [ConfusedPair(2, 0, 1, 1.0)]
    assert most_confused(torch.eye(3, dtype=torch.int64), 9) == []


def test_the_worst_mistakes_are_the_most_confident() -> None:
    """They are sorted by the probability that the service gives, at the checkpoint's temperature."""
    logits = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 9.0], [0.0, 3.0]])
    mistakes = worst_mistakes(evaluate(logits, [1, 0, 1, 0], temperature=2.0), 2)
    assert [(m.index, m.true, m.predicted) for m in mistakes] == [(3, 0, 1), (1, 0, 1)]
    assert mistakes[0].probability == pytest.approx(float(torch.tensor(1.5).sigmoid()))
