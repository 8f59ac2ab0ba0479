"""What a test split says of a network: the numbers of a report.

Owns the counting. Starts from logits and labels in CPU memory; knows nothing of how they are shown.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from models.checkpoint import CheckpointMetadata
from models.probabilities import softmax
from training.data.dataset import Split
from training.evaluation.calibration import COVERAGES, CoverageResult, measure_coverage

NORMAL_95 = 1.959964  # 95 % of a normal distribution lie within so many standard deviations


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """A network's answers to the images of the split with that `name`.

    `logits` are (N, K) at a temperature of 1, `served` the (N, K) probabilities at the checkpoint's, `given`
    the (N,) top labels, and `counts` (K, K), with a row for each right label and a column for each given
    one. `promises` is empty where there is no calibration.
    """

    description: CheckpointMetadata
    name: str
    split: Split
    logits: Tensor
    served: Tensor
    given: Tensor
    counts: Tensor
    promises: list[CoverageResult]


@dataclass(frozen=True, slots=True)
class Mistake:
    """The image of that `number` in the split, its `right` label, and the `given` one with its probability."""

    number: int
    right: int
    given: int
    probability: float


@dataclass(frozen=True, slots=True)
class ConfusedPair:
    """How many `images` have the label `right` and got the label `given`, and their share of all that have it."""

    right: int
    given: int
    images: int
    share: float


@dataclass(frozen=True, slots=True)
class ClassResult:
    """How the images that have a label, and those that got it, fared; None where there are none."""

    images: int
    precision: float | None
    recall: float | None
    f1: float | None


def evaluate_predictions(description: CheckpointMetadata, split: Split, logits: Tensor) -> Evaluation:
    """What comes of the (N, K) logits, at a temperature of 1, of `test`, or of `val` where there is no `test`."""
    name = "test" if "test" in description.metrics else "val"
    served, given = softmax(logits, description.temperature), logits.argmax(dim=1)
    classes, promises = logits.shape[1], []
    counts = torch.bincount(split.labels * classes + given, minlength=classes**2).reshape(classes, classes)
    if calibration := description.calibration:
        promises = [measure_coverage(served, split.labels, calibration, coverage) for coverage in COVERAGES]
    return Evaluation(description, name, split, logits, served, given, counts, promises)


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """The 95 % interval of the share right / total, good near 0 and 1 too (Wilson 1927, "Probable inference")."""
    share, z2 = right / total, NORMAL_95**2
    middle = (right + z2 / 2) / (total + z2)
    half = NORMAL_95 * math.sqrt(right * (1 - share) + z2 / 4) / (total + z2)
    return max(min(middle - half, share), 0.0), min(max(middle + half, share), 1.0)  # rounding may move an end past it


def coverage_interval(promise: CoverageResult, images: int) -> tuple[float, float]:
    """The 95 % interval of the coverage that was kept on so many images."""
    return wilson_interval(round(promise.kept * images), images)


def per_class_results(counts: Tensor) -> list[ClassResult]:
    """Precision, recall and F1 of each label, from the (K, K) counts."""
    columns = (counts.diag(), counts.sum(dim=1), counts.sum(dim=0))
    return [
        ClassResult(images, _share(hits, given), _share(hits, images), _share(2 * hits, images + given))
        for hits, images, given in zip(*(column.tolist() for column in columns), strict=True)
    ]


def balanced_accuracy(counts: Tensor) -> float:
    """The mean recall of the labels that the split has images of."""
    recalls = [result.recall for result in per_class_results(counts) if result.recall is not None]
    return sum(recalls) / len(recalls)


def most_confused(counts: Tensor, most: int) -> list[ConfusedPair]:
    """The pairs of labels that are confused most often, in that order, of the (K, K) counts."""
    images = counts.sum(dim=1)
    wrong = counts - counts.diag().diag()
    ordered = wrong.flatten().sort(descending=True, stable=True).indices[:most]
    rows, columns = ordered // len(counts), ordered % len(counts)
    found = zip(rows.tolist(), columns.tolist(), wrong[rows, columns].tolist(), images[rows].tolist(), strict=True)
    return [ConfusedPair(row, column, count, count / total) for row, column, count, total in found if count]


def worst_mistakes(found: Evaluation, most: int) -> list[Mistake]:
    """The images with the largest probability for a label that is wrong, the largest first."""
    labels, given = found.split.labels, found.given
    taken = found.served.gather(1, given[:, None])[:, 0]
    ordered = taken.sort(descending=True, stable=True).indices
    numbers = ordered[(given != labels)[ordered]][:most]
    columns = (numbers, labels[numbers], given[numbers], taken[numbers])
    return [Mistake(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
