"""From logits to what may be believed of them: probabilities, prediction sets, typicality.

Owns the temperature, and the arithmetic of split conformal prediction: the same functions make a
calibration's tables when training and look them up when serving.
"""

import bisect
import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Logits = NDArray[np.float32]
Probabilities = NDArray[np.float32]
KINDS = ("lac", "aps")
# A table of 999 scores cuts their line into 1,000 intervals, so that coverages of up to three decimals
# get the threshold that all the scores would give.
TABLE_SIZE = 999


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What is known from `images` labelled images that the network was not trained on.

    `scores` is the table of their labels' conformal scores of that `kind` (see `ranked_scores`),
    `energies` that of their energies (see `energy`); both ascend and come from `quantile_table`. Raises
    ValueError, naming the field, its value and the allowed range.
    """

    kind: str
    images: int
    scores: tuple[float, ...]
    energies: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}, but must be one of {', '.join(KINDS)}")
        if not 1 <= self.images < 2**53:  # the integers that every reader of JSON keeps exact (RFC 8259, section 6)
            raise ValueError(f"images is {self.images}, but must lie in 1..2^53 - 1")
        for name, values in (("scores", self.scores), ("energies", self.energies)):
            if len(values) != (expected := min(self.images, TABLE_SIZE)):
                raise ValueError(f"{name} has {len(values)} values, but {self.images} images give {expected}")
            if not all(map(math.isfinite, values)) or any(a > b for a, b in pairwise(values)):
                raise ValueError(f"{name} has values that are not finite or do not ascend, but must")


@dataclass(frozen=True, slots=True)
class Prediction:
    """One image's (K,) logits and probabilities, and its typicality, None without a calibration."""

    logits: Logits
    probabilities: Probabilities
    typicality: float | None


def make_predictions(logits: Tensor, temperature: float, calibration: Calibration | None) -> list[Prediction]:
    """What (N, K) logits on the CPU say of each of N images: once for a batch, as small operations cost by the call."""
    typicalities = typicality(logits, calibration) if calibration else [None] * len(logits)
    probabilities = softmax(logits, temperature)
    return list(map(Prediction, logits.numpy(), probabilities.numpy(), typicalities))


def softmax(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """(N, K) logits of any float type -> (N, K) probabilities, computed in float64, given in float32.

    `temperature` divides the logits (Guo et al., arXiv 1706.04599); 1 leaves them as trained.
    """
    return (logits.double() / temperature).softmax(dim=1).float()


def ranked_scores(probabilities: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """The labels of (N, K) probabilities, the most probable first, and the conformal score of each.

    Both are (N, K); equal probabilities keep the labels' order, and scores never fall along a row, so
    that a prediction set is always the first few labels. `lac` scores a label by 1 - its probability
    (Sadinle et al., arXiv 1609.00451): a set has all labels of some probability or more. `aps` scores it
    by the sum of those before it (Romano et al., arXiv 2006.02544): a set has as many labels as it takes
    to go beyond some sum.

    Nothing is drawn at random, so that an image always gets the same set. APS as published adds a random
    share of the label's own probability, which can leave a set empty and makes the coverage exact. Here
    the top label scores 0, and where less is asked for than the accuracy, the accuracy is what is given.
    Adding all of that probability instead made sets of CIFAR-10 two to three times as large.
    """
    ordered, labels = probabilities.double().sort(dim=1, descending=True, stable=True)
    return labels, 1 - ordered if kind == "lac" else ordered.cumsum(dim=1) - ordered


def prediction_sets(probabilities: Tensor, calibration: Calibration, coverage: float) -> list[list[int]]:
    """For each row of (N, K) probabilities the labels' indices, the most probable first, at least that one.

    For images like those of the calibration the right label is in the set with a probability of
    `coverage` or more (Vovk et al., "Algorithmic Learning in a Random World"), over new images and new
    calibrations. With a table of n scores, a coverage beyond n/(n + 1) gives a set of all labels.
    """
    labels, scores = ranked_scores(probabilities, calibration.kind)
    counts = (scores <= _threshold(calibration.scores, coverage)).sum(dim=1).clamp(min=1)
    return [row[:count].tolist() for row, count in zip(labels, counts.tolist(), strict=True)]


def energy(logits: Tensor) -> Tensor:
    """(N, K) logits -> (N,) energies in float64, higher for stranger images (Liu et al., arXiv 2010.03759)."""
    return -logits.double().logsumexp(dim=1)


def typicality(logits: Tensor, calibration: Calibration) -> list[float]:
    """For each row of (N, K) logits the share, in (0, 1], of images that fit the network as badly or worse.

    The image itself counts among them, which makes it a p-value: of images like those of the
    calibration at most the share p gets p or less, whatever p (Bates et al., arXiv 2104.08279).
    """
    energies = calibration.energies
    total = len(energies) + 1
    return [(total - bisect.bisect_left(energies, value)) / total for value in energy(logits).tolist()]


def quantile_table(values: Iterable[float]) -> tuple[float, ...]:
    """At most TABLE_SIZE of the values, ascending, which stand for all of them; all, if there are no more.

    The j-th of m is the one of rank ceil((n + 1) j / (m + 1)) among n. So whoever takes the m for all
    of the scores is never given a lower one than all n would give: sets and typicalities err to the
    larger side.
    """
    ordered = sorted(values)
    n, m = len(ordered), min(len(ordered), TABLE_SIZE)
    return tuple(ordered[-(-(n + 1) * j // (m + 1)) - 1] for j in range(1, m + 1))


def _threshold(scores: tuple[float, ...], coverage: float) -> float:
    """The score of rank ceil((n + 1) coverage) among n, or infinity where that is n + 1."""
    rank = math.ceil((len(scores) + 1) * coverage - 1e-9)  # 100 * 0.07 is 7.000000000000001
    return scores[max(rank, 1) - 1] if rank <= len(scores) else math.inf
