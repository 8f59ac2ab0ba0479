"""Answer or defer: which predictions are accepted so that at most a chosen share of the accepted ones is wrong.

Owns the thresholds on the confidence, which is the probability of the top label. Training makes a table of them, and
serving looks them up. For each largest error e the table has a threshold, from n labelled images that the network was
not trained on. The probability, over such calibrations, that more than the share e of all accepted images is wrong is
at most 1 - CONFIDENCE. This holds for any network and any distribution of images, for each e by itself.

The method is fixed-sequence testing (Angelopoulos et al., "Learn then test", arXiv 2110.01052) of the risk of selective
classification (Geifman and El-Yaniv, arXiv 1705.08500). The images are put in order of falling confidence. For
j = s, s + 1, ... the j most confident images are tested: if k of them are wrong, the p-value of "the error above this
confidence exceeds e" is P(Binomial(j, e) <= k). Testing stops at the first p-value above 1 - CONFIDENCE. The threshold
is the lowest confidence whose images have all been tested, and more than s images must reach it.

The thresholds come from the same images, and the promise holds all the same. Let R(t) be the error of all images with a
confidence above t. Ties are broken at random, so R is continuous. Given that j calibration images lie above a fixed t,
or that t is the confidence of rank j + 1, the number of wrong images above t is Binomial(j, R(t)). Let t0 be the
confidence of rank s + 1.

- If R(t0) > e, the first test passes with a probability of at most 1 - CONFIDENCE.
- Otherwise let b..u be the largest interval around t0 where R <= e. A threshold below t0 with R > e lies below b. It is
  chosen only if the test of the images above b passes. R(b) is e. R(u) is e too, or no image lies above u. So the error
  between b and u is also e, and where t0 lies says nothing of the number of wrong images above b. This number is
  Binomial(j, e), so that test passes with a probability of at most 1 - CONFIDENCE.

Among images of equal confidence the wrong ones are tested first, which can only end the tests earlier than a random
order. The confidences use a temperature that was fitted on the same images. The proof leaves this out; a test measures
that the promise holds with it.
"""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.9
# Testing begins with this share of the images. With fewer, a single confident mistake would stop it.
FIRST_SHARE = 0.1
# The table has a threshold for each of these errors; one between two of them gets the threshold of the smaller.
LEVELS = (*(i / 10_000 for i in range(1, 10)), *(i / 1_000 for i in range(1, 1_000)))
NONE_ACCEPTED = 2.0  # a threshold above every probability


@dataclass(frozen=True, slots=True)
class Threshold:
    """The lowest `probability` of a top label that is accepted, so that at most the share `max_error` is wrong."""

    max_error: float
    probability: float

    def accepts(self, probability: float) -> bool:
        """Whether a top label of this probability is accepted."""
        return float(probability) >= self.probability


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionTable:
    """Thresholds on the probability of the top label, which keep their promise with this `confidence`.

    From the error `levels[i]` on, up to the next level, a prediction is accepted if the probability of its top label is
    at least `thresholds[i]`. NONE_ACCEPTED as a threshold accepts no prediction; nor is one accepted below the first
    level. `accepted[i]` is the share of the calibration's images that the threshold accepts. Raises ValueError with the
    field, its value and the allowed range.
    """

    confidence: float
    levels: tuple[float, ...]
    thresholds: tuple[float, ...]
    accepted: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence is {self.confidence}, but must lie above 0 and below 1")
        if not len(self.levels) == len(self.thresholds) == len(self.accepted) <= len(LEVELS):
            sizes = f"{len(self.levels)}, {len(self.thresholds)} and {len(self.accepted)}"
            raise ValueError(
                f"levels, thresholds and accepted have {sizes} values, but must have as many, at most {len(LEVELS)}"
            )
        if not all(0 < level < 1 for level in self.levels) or any(a >= b for a, b in pairwise(self.levels)):
            raise ValueError("levels has values that do not ascend within 0..1, but must")
        if not all(0 <= threshold <= NONE_ACCEPTED for threshold in self.thresholds):
            raise ValueError(f"thresholds has values outside 0..{NONE_ACCEPTED:g}, but must not")
        if not all(0 <= share <= 1 for share in self.accepted):
            raise ValueError("accepted has values outside 0..1, but must not")

    def find_threshold(self, max_error: float) -> Threshold:
        """The threshold for a largest error above 0 and below 1."""
        return Threshold(max_error, self._look_up(self.thresholds, max_error, NONE_ACCEPTED))

    def accepted_share(self, max_error: float) -> float:
        """The share of the calibration's images that were accepted."""
        return self._look_up(self.accepted, max_error, 0.0)

    def _look_up(self, column: tuple[float, ...], max_error: float, otherwise: float) -> float:
        row = bisect.bisect_right(self.levels, max_error) - 1
        return column[row] if row >= 0 else otherwise


def make_decision_table(
    confidences: Sequence[float], correct: Sequence[bool], levels: Sequence[float] = LEVELS
) -> DecisionTable:
    """The table of n images, from the probability of each one's top label and whether that label is right.

    `levels` are the errors that it has a row for, unless the row before says the same. A threshold of 0 accepts every
    image. It is chosen where all n images pass their tests.
    """
    order = np.lexsort((np.asarray(correct), -np.asarray(confidences)))  # of equal confidences the wrong ones first
    ordered, wrong = np.asarray(confidences)[order], ~np.asarray(correct, dtype=bool)[order]
    images = len(ordered)
    errors = np.asarray(levels)
    first = _first_tests(images, errors)
    tested = _count_tested(wrong, first, errors)
    ends = np.flatnonzero(np.append(ordered[:-1] > ordered[1:], True)) + 1  # where all equal confidences are counted
    # The number of accepted images of each level: the last end among those that were tested, or 0.
    counts = np.append(0, ends)[np.searchsorted(ends, tested, side="right")]
    counts[counts <= first] = 0
    counts[tested == images] = images
    thresholds = [
        NONE_ACCEPTED if not count else 0.0 if count == images else float(ordered[count - 1])
        for count in counts.tolist()
    ]
    kept = [i for i, row in enumerate(thresholds) if row != (thresholds[i - 1] if i else NONE_ACCEPTED)]
    return DecisionTable(
        confidence=CONFIDENCE,
        levels=tuple(levels[i] for i in kept),
        thresholds=tuple(thresholds[i] for i in kept),
        accepted=tuple((counts[kept] / images).tolist()),
    )


def _first_tests(images: int, levels: NDArray[np.float64]) -> NDArray[np.int64]:
    """For each of (L,) levels the number s of images in its first test, which depends on n and the level alone.

    With fewer than ln(1 - CONFIDENCE) / ln(1 - e) images no test can pass.
    """
    needed = np.log(1 - CONFIDENCE) / np.log1p(-levels)
    first: NDArray[np.int64] = np.maximum(np.ceil(needed - 1e-9), math.ceil(FIRST_SHARE * images)).astype(np.int64)
    return first


def _count_tested(wrong: NDArray[np.bool_], first: NDArray[np.int64], levels: NDArray[np.float64]) -> NDArray[np.int64]:
    """For each of (L,) levels the number of images in the last test that passed, or 0.

    `wrong` is (n,), by falling confidence.

    For the first j images, of which k are wrong, `at_most` is P(Binomial(j, e) <= k) and `log_exactly` is
    ln P(Binomial(j, e) = k). Both follow from those of j - 1 images, because one image is right or wrong by itself.
    """
    log_right, log_wrong = np.log1p(-levels), np.log(levels)
    at_most, log_exactly = np.ones_like(levels), np.zeros_like(levels)
    tested, is_running, k = np.zeros(len(levels), dtype=np.int64), first <= len(wrong), 0
    for j, is_wrong in enumerate(wrong.tolist(), start=1):
        at_most -= levels * np.exp(log_exactly)  # P(Binomial(j, e) <= k) with the k of j - 1 images
        if is_wrong:
            k += 1
            log_exactly += log_wrong + math.log(j / k)
            at_most += np.exp(log_exactly)
        else:
            log_exactly += log_right + math.log(j / (j - k))
        is_running &= (j < first) | (at_most <= 1 - CONFIDENCE)
        if not is_running.any():
            break
        tested[is_running & (j >= first)] = j
    return tested
