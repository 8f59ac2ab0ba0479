"""The measures of a network on a split: accuracy, quality of the probabilities, coverage of prediction sets.

Owns their formulas. All of them but `compute_logits` start from logits or probabilities in CPU memory.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.decisions import DecisionTable
from models.normalise import normalise
from models.preprocess import Preprocessing
from models.probabilities import Calibration, prediction_sets, softmax

COVERAGES = (0.8, 0.9, 0.95, 0.99)
CLASS_COVERAGE = 0.9  # for which the coverage of each label is measured
MAX_ERRORS = (0.005, 0.01, 0.02, 0.05)
ECE_BINS = 15


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The images whose top label has a probability above `low` and up to `high`.

    `confidence` is the mean of that probability. `accuracy` is the share of these images whose top label is
    correct. Both are NaN where `images` is 0.
    """

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True, eq=False)
class ProbabilityMetrics:
    """The (N, K) `probabilities` of a split at one temperature, and how good they are.

    `nll` is the negative log-likelihood in nats, `brier` the Brier score (0 to 2), and `ece` the expected
    calibration error (0 to 1) over the `bins`. Smaller values are better.
    """

    probabilities: Tensor
    nll: float
    brier: float
    ece: float
    bins: list[ReliabilityBin]


@dataclass(frozen=True, slots=True)
class CoverageResult:
    """A requested `coverage` and what a split shows of it.

    `empirical` is the share of images whose prediction set contains the true label. `mean_size` is the mean
    number of labels in a set.
    """

    coverage: float
    empirical: float
    mean_size: float


@dataclass(frozen=True, slots=True)
class ClassCoverage:
    """Of the `images` of a label, the shares whose prediction set contains it, with sets of one coverage.

    `together` is that of the sets with one threshold, `per_class` that of the sets with a threshold for each label.
    """

    images: int
    together: float
    per_class: float


@dataclass(frozen=True, slots=True)
class DecisionResult:
    """A requested `max_error` and what a split shows of it.

    `accepted` is the number of images whose prediction is accepted, `wrong` the number of wrong ones among them.
    """

    max_error: float
    accepted: int
    wrong: int


@torch.inference_mode()
def compute_logits(model: nn.Module, images: Tensor, preprocessing: Preprocessing, batch_size: int) -> Tensor:
    """(N, K) logits in float32, in CPU memory, of (N, S, S, C) uint8 images; `model` is in evaluation mode."""
    return torch.cat([model(normalise(batch, preprocessing)).cpu() for batch in torch.split(images, batch_size)])


def accuracy_metrics(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """`accuracy`, `balanced_accuracy` and `loss` of (N, K) logits against (N,) labels.

    The loss is the mean cross-entropy in nats, at a temperature of 1.
    """
    classes, correct = logits.shape[1], logits.argmax(dim=1) == labels
    per_class = (torch.bincount(of, minlength=classes) for of in (labels[correct], labels))
    return {
        "accuracy": float(correct.double().mean()),
        "balanced_accuracy": balanced_accuracy(*per_class),
        "loss": negative_log_likelihood(logits, labels, 1.0),
    }


def balanced_accuracy(correct: Tensor, images: Tensor) -> float:
    """The mean recall of the classes that have images, from (K,) counts of correct images and of all images."""
    return float((correct.double() / images)[images > 0].mean())


def probability_metrics(logits: Tensor, labels: Tensor, temperature: float) -> ProbabilityMetrics:
    """The probabilities of (N, K) logits at a temperature, compared with (N,) labels."""
    probabilities = softmax(logits, temperature)
    bins = reliability_bins(probabilities, labels)
    return ProbabilityMetrics(
        probabilities,
        nll=negative_log_likelihood(logits, labels, temperature),
        brier=brier_score(probabilities, labels),
        ece=expected_calibration_error(bins),
        bins=bins,
    )


def negative_log_likelihood(logits: Tensor, labels: Tensor, temperature: float) -> float:
    """The mean over the images, in nats."""
    return float(F.cross_entropy(logits.double() / temperature, labels))


def brier_score(probabilities: Tensor, labels: Tensor) -> float:
    """The squared error, summed over the classes and averaged over the images, from 0 to 2 (Brier 1950)."""
    targets = F.one_hot(labels, probabilities.shape[1])
    return float((probabilities.double() - targets).square().sum(dim=1).mean())


def reliability_bins(probabilities: Tensor, labels: Tensor, bins: int = ECE_BINS) -> list[ReliabilityBin]:
    """Groups the images by the probability of their top label, in bins of equal width."""
    confidences, top = probabilities.double().max(dim=1)
    correct = (top == labels).double()
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    indices = torch.bucketize(confidences, edges[1:-1])  # a value on an edge belongs to the bin below it
    counts = torch.bincount(indices, minlength=bins)
    means = [torch.bincount(indices, weights, bins) / counts for weights in (confidences, correct)]
    columns = (edges[:-1], edges[1:], counts, *means)
    return [ReliabilityBin(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def expected_calibration_error(bins: list[ReliabilityBin]) -> float:
    """The mean distance between confidence and accuracy, weighted by the images of a bin (Naeini et al. 2015).

    The sampling noise of the bins adds up. With some hundreds of images, perfect probabilities still show an
    error of some per cent.
    """
    total = sum(b.images for b in bins)
    return sum(b.images / total * abs(b.confidence - b.accuracy) for b in bins if b.images)


def measure_coverage(
    probabilities: Tensor, labels: Tensor, calibration: Calibration, coverage: float
) -> CoverageResult:
    """Builds a prediction set for each image and counts how often it contains the true label."""
    sets = prediction_sets(probabilities, calibration, coverage)
    covered = _find_covered(sets, labels)
    return CoverageResult(coverage, sum(covered) / len(covered), sum(map(len, sets)) / len(sets))


def measure_class_coverage(
    probabilities: Tensor, labels: Tensor, calibration: Calibration, coverage: float
) -> list[ClassCoverage | None]:
    """The coverage of each label's images, or None for a label without images. There are tables by class."""
    together, per_class = (
        torch.tensor(
            _find_covered(prediction_sets(probabilities, calibration, coverage, per_class=per_class), labels)
        ).double()
        for per_class in (False, True)
    )
    masks = [labels == label for label in range(probabilities.shape[1])]
    return [
        ClassCoverage(int(mask.sum()), float(together[mask].mean()), float(per_class[mask].mean()))
        if mask.any()
        else None
        for mask in masks
    ]


def _find_covered(sets: list[list[int]], labels: Tensor) -> list[bool]:
    return [label in labels_of_set for label, labels_of_set in zip(labels.tolist(), sets, strict=True)]


def measure_decision(
    probabilities: Tensor, labels: Tensor, decisions: DecisionTable, max_error: float
) -> DecisionResult:
    """Decides for each image, from its (K,) probabilities, and counts the wrong ones among the accepted."""
    confidences, predicted = probabilities.max(dim=1)
    accepted = confidences.double() >= decisions.find_threshold(max_error).probability
    return DecisionResult(max_error, int(accepted.sum()), int((accepted & (predicted != labels)).sum()))
