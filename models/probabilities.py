"""From logits to probabilities, prediction sets and the table that they are looked up in.

Owns the temperature and split conformal prediction. Training makes a calibration's tables with these functions, and
serving looks the tables up with them.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from models.decisions import DecisionTable

KINDS = ("lac", "aps")
# A table of 999 scores has 1,000 intervals. So a coverage of up to three decimals gets the same threshold from the
# table as from all the scores.
TABLE_SIZE = 999


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What was measured on `images` labelled images that the network was not trained on.

    `scores` is the table of the labels' conformal scores of that `kind` (see `ranked_scores`). `energies` is the table
    of the images' energies (see `models.typicality.energy`). Both are ascending and come from `quantile_table`.
    `decisions` is None in checkpoints from before there were decisions. Raises ValueError with the field, its value and
    the allowed range.
    """

    kind: str
    images: int
    scores: tuple[float, ...]
    energies: tuple[float, ...]
    decisions: DecisionTable | None = None

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


def softmax(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """(N, K) logits of any float type -> (N, K) probabilities, computed in float64, returned in float32.

    `temperature` divides the logits (Guo et al., arXiv 1706.04599). 1 leaves them unchanged.
    """
    return (logits.double() / temperature).softmax(dim=1).float()


def ranked_scores(probabilities: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """The labels of (N, K) probabilities, the most probable first, and the conformal score of each.

    Both results are (N, K). Equal probabilities keep the labels' order. Scores never fall along a row, so a prediction
    set is always the first few labels. `lac` scores a label by 1 - its probability (Sadinle et al., arXiv 1609.00451):
    a set has all labels above a threshold of probability. `aps` scores a label by the sum of the probabilities before
    it (Romano et al., arXiv 2006.02544): labels are added to a set until their sum exceeds a threshold.

    Nothing is random, so an image always gets the same set. APS as published adds a random share of the label's own
    probability. That makes the coverage exact, but a set can be empty. Here the top label's score is 0. If the
    requested coverage is below the accuracy, the coverage is therefore the accuracy. Adding the whole probability
    instead made the sets of CIFAR-10 two to three times as large.
    """
    ordered, labels = probabilities.double().sort(dim=1, descending=True, stable=True)
    return labels, 1 - ordered if kind == "lac" else ordered.cumsum(dim=1) - ordered


def prediction_sets(probabilities: Tensor, calibration: Calibration, coverage: float) -> list[list[int]]:
    """For each row of (N, K) probabilities the indices of the labels in its set, the most probable first.

    A set has at least the most probable label. For images like those of the calibration, the true label is in the set
    with a probability of at least `coverage`, over new images and new calibrations (Vovk et al., "Algorithmic Learning
    in a Random World"). With a table of n scores, a coverage above n/(n + 1) gives the set of all labels.
    """
    labels, scores = ranked_scores(probabilities, calibration.kind)
    counts = (scores <= _threshold(calibration.scores, coverage)).sum(dim=1).clamp(min=1)
    return [row[:count].tolist() for row, count in zip(labels, counts.tolist(), strict=True)]


def quantile_table(values: Iterable[float]) -> tuple[float, ...]:
    """The n values in ascending order, or m = TABLE_SIZE of them if there are more.

    The j-th of m is the value of rank ceil((n + 1) j / (m + 1)) among n. A threshold from the m values is therefore
    never below the one from all n, so sets and typicalities can only become larger.
    """
    ordered = sorted(values)
    n, m = len(ordered), min(len(ordered), TABLE_SIZE)
    return tuple(ordered[-(-(n + 1) * j // (m + 1)) - 1] for j in range(1, m + 1))


def _threshold(scores: tuple[float, ...], coverage: float) -> float:
    """The score of rank ceil((n + 1) coverage) among n, or infinity where that is n + 1."""
    rank = math.ceil((len(scores) + 1) * coverage - 1e-9)  # 100 * 0.07 is 7.000000000000001
    return scores[max(rank, 1) - 1] if rank <= len(scores) else math.inf
