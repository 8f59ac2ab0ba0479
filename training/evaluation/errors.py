"""The errors of a network on a split: by label, by pair of labels, and by image.

Owns the counting, and the confidence intervals of the shares that are counted.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from training.evaluation.evaluation import Evaluation
from training.evaluation.metrics import CoverageResult

NORMAL_95 = 1.959964  # 95 % of a normal distribution lie within this many standard deviations of the mean


@dataclass(frozen=True, slots=True)
class Mistake:
    """An image with a wrong prediction.

    `index` is its position in the split, `true` its label, `predicted` the top label, with its `probability`.
    """

    index: int
    true: int
    predicted: int
    probability: float


@dataclass(frozen=True, slots=True)
class ConfusedPair:
    """How many `images` of the label `true` were predicted as `predicted`, and their share of the true label."""

    true: int
    predicted: int
    images: int
    share: float


@dataclass(frozen=True, slots=True)
class ClassResult:
    """The number of images of a label, and its precision, recall and F1; a value is None where it divides by 0."""

    images: int
    precision: float | None
    recall: float | None
    f1: float | None


def wilson_interval(successes: int, total: int) -> tuple[float, float]:
    """The 95 % interval of the share successes / total (Wilson 1927, "Probable inference").

    It is accurate near 0 and 1 too.
    """
    share, z2 = successes / total, NORMAL_95**2
    middle = (successes + z2 / 2) / (total + z2)
    half = NORMAL_95 * math.sqrt(successes * (1 - share) + z2 / 4) / (total + z2)
    low, high = min(middle - half, share), max(middle + half, share)  # rounding can move an end past the share
    return max(low, 0.0), min(high, 1.0)


def coverage_interval(result: CoverageResult, images: int) -> tuple[float, float]:
    """The 95 % interval of an empirical coverage that was measured on this number of images."""
    return wilson_interval(round(result.empirical * images), images)


def per_class_results(counts: Tensor) -> list[ClassResult]:
    """Precision, recall and F1 of each label, from the (K, K) counts."""
    columns = (counts.diag(), counts.sum(dim=1), counts.sum(dim=0))
    return [
        ClassResult(images, _divide(hits, predicted), _divide(hits, images), _divide(2 * hits, images + predicted))
        for hits, images, predicted in zip(*(column.tolist() for column in columns), strict=True)
    ]


def most_confused(counts: Tensor, limit: int) -> list[ConfusedPair]:
    """The pairs of labels that are confused most often, the most frequent first, from the (K, K) counts."""
    images = counts.sum(dim=1)
    wrong = counts - counts.diag().diag()
    order = wrong.flatten().sort(descending=True, stable=True).indices[:limit]
    rows, columns = order // len(counts), order % len(counts)
    pairs = zip(rows.tolist(), columns.tolist(), wrong[rows, columns].tolist(), images[rows].tolist(), strict=True)
    return [ConfusedPair(row, column, count, count / total) for row, column, count, total in pairs if count]


def worst_mistakes(evaluation: Evaluation, limit: int) -> list[Mistake]:
    """The images with the highest probability for a wrong label, the highest first."""
    labels, predicted = evaluation.split.labels, evaluation.predicted
    confidences = evaluation.served.probabilities.gather(1, predicted[:, None])[:, 0]
    order = confidences.sort(descending=True, stable=True).indices
    indices = order[(predicted != labels)[order]][:limit]
    columns = (indices, labels[indices], predicted[indices], confidences[indices])
    return [Mistake(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _divide(part: int, whole: int) -> float | None:
    return part / whole if whole else None
