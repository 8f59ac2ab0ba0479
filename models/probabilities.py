"""From logits to probabilities, prediction sets and the table that they are looked up in.

Owns the temperature and split conformal prediction. Training makes a calibration's tables with these functions, and
serving looks the tables up with them.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from models.decisions import DecisionTable

KINDS = ("lac", "aps")
# A table of 999 scores has 1,000 intervals. So a coverage of up to three decimals gets the same threshold from the
# table as from all the scores.
TABLE_SIZE = 999
ALL_CLASSES_SIZE = 100_000  # of the tables of all classes together, which take 2 MB in a checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassTables:
    """For each label the number of calibration `images` with it, and the table of their conformal `scores`.

    A table comes from `quantile_table` with the size of `class_table_size`. Raises ValueError with the field, its value
    and the allowed range.
    """

    images: tuple[int, ...]
    scores: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        if len(self.images) != len(self.scores):
            raise ValueError(f"images has {len(self.images)} counts, but there are {len(self.scores)} tables of scores")
        if bad := [count for count in self.images if not 0 <= count < 2**53]:
            raise ValueError(f"images has {bad[0]}, but must lie in 0..2^53 - 1")
        size = class_table_size(len(self.scores))
        for i, (count, table) in enumerate(zip(self.images, self.scores, strict=True)):
            if len(table) != (expected := min(count, size)):
                raise ValueError(f"scores.{i} has {len(table)} values, but {count} images give {expected}")
            _check_table(f"scores.{i}", table)

    def find_shortage(self, coverage: float) -> tuple[int, int] | None:
        """The label with the fewest images and the number that the coverage needs, or None if every label has them."""
        needed = images_needed(coverage)
        fewest = min(range(len(self.images)), key=self.images.__getitem__)
        return (fewest, needed) if self.images[fewest] < needed else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What was measured on `images` labelled images that the network was not trained on.

    `scores` is the table of the labels' conformal scores of that `kind` (see `ranked_scores`). `energies` is the table
    of the images' energies (see `models.typicality.energy`). Both are ascending and come from `quantile_table`.
    `decisions` and `by_class` are None in checkpoints from before they existed. Raises ValueError with the field, its
    value and the allowed range.
    """

    kind: str
    images: int
    scores: tuple[float, ...]
    energies: tuple[float, ...]
    decisions: DecisionTable | None = None
    by_class: ClassTables | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}, but must be one of {', '.join(KINDS)}")
        if not 1 <= self.images < 2**53:  # the integers that every reader of JSON keeps exact (RFC 8259, section 6)
            raise ValueError(f"images is {self.images}, but must lie in 1..2^53 - 1")
        for name, values in (("scores", self.scores), ("energies", self.energies)):
            if len(values) != (expected := min(self.images, TABLE_SIZE)):
                raise ValueError(f"{name} has {len(values)} values, but {self.images} images give {expected}")
            _check_table(name, values)
        if self.by_class and sum(self.by_class.images) != self.images:
            raise ValueError(f"by_class has {sum(self.by_class.images)} images, but must have {self.images}")


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


def prediction_sets(
    probabilities: Tensor, calibration: Calibration, coverage: float, *, per_class: bool = False
) -> list[list[int]]:
    """For each row of (N, K) probabilities the indices of the labels in its set, the most probable first.

    A set has at least the most probable label. For images like those of the calibration, the true label is in the set
    with a probability of at least `coverage`, over new images and new calibrations (Vovk et al., "Algorithmic Learning
    in a Random World"). With a table of n scores, a coverage above n/(n + 1) gives the set of all labels.

    With `per_class` the same holds among the images of each label by itself, because each label has a threshold of its
    own (Mondrian conformal prediction, in the same book). A label whose table is too small for the coverage is in every
    set. The calibration must have tables by class.
    """
    labels, scores = ranked_scores(probabilities, calibration.kind)
    if per_class:
        assert calibration.by_class is not None
        thresholds = torch.tensor(
            [_threshold(table, coverage) for table in calibration.by_class.scores], dtype=torch.float64
        )
        is_member = scores <= thresholds[labels]
        is_member[:, 0] = True
        return [row[kept].tolist() for row, kept in zip(labels, is_member, strict=True)]
    counts = (scores <= _threshold(calibration.scores, coverage)).sum(dim=1).clamp(min=1)
    return [row[:count].tolist() for row, count in zip(labels, counts.tolist(), strict=True)]


def quantile_table(values: Iterable[float], size: int = TABLE_SIZE) -> tuple[float, ...]:
    """The n values in ascending order, or m = `size` of them if there are more.

    The j-th of m is the value of rank ceil((n + 1) j / (m + 1)) among n. A threshold from the m values is therefore
    never below the one from all n, so sets and typicalities can only become larger.
    """
    ordered = sorted(values)
    n, m = len(ordered), min(len(ordered), size)
    return tuple(ordered[-(-(n + 1) * j // (m + 1)) - 1] for j in range(1, m + 1))


def class_table_size(classes: int) -> int:
    """The largest number of scores in the table of a label. With 100 labels or fewer it is that of the whole table."""
    return max(1, min(TABLE_SIZE, ALL_CLASSES_SIZE // max(classes, 1)))


def images_needed(coverage: float) -> int:
    """The smallest number of calibration images whose worst score is the threshold of a coverage in 0..1."""
    return max(1, math.ceil((coverage - 1e-9) / (1 - coverage)))  # `_threshold` has the same tolerance


def _check_table(name: str, values: tuple[float, ...]) -> None:
    if not all(map(math.isfinite, values)) or any(a > b for a, b in pairwise(values)):
        raise ValueError(f"{name} has values that are not finite or do not ascend, but must")


def _threshold(scores: tuple[float, ...], coverage: float) -> float:
    """The score of rank ceil((n + 1) coverage) among n, or infinity where that is n + 1."""
    rank = math.ceil((len(scores) + 1) * coverage - 1e-9)  # 100 * 0.07 is 7.000000000000001
    return scores[max(rank, 1) - 1] if rank <= len(scores) else math.inf
