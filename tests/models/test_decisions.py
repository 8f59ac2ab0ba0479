"""Decisions: which predictions are accepted, and that at most the promised share of them is wrong."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.decisions import CONFIDENCE, LEVELS, NONE_ACCEPTED, DecisionTable, Threshold, make_decision_table

Floats = NDArray[np.float64]
ERRORS = (0.02, 0.05, 0.1)
ROUNDS = 200
# Binomial noise of ROUNDS calibrations, three standard deviations of it.
ALLOWED = 1 - CONFIDENCE + 3 * math.sqrt(CONFIDENCE * (1 - CONFIDENCE) / ROUNDS)
KINDS = ("honest", "confident mistakes", "ties", "constant")


def confidence_of(u: Floats, kind: str) -> Floats:
    """The confidences of images at the places u in 0..1, the most confident first."""
    return np.round(1 - u / 2, 2) if kind == "ties" else 1 - u / 2


def error_of(u: Floats, kind: str) -> Floats:
    """The probability that the label of an image at the place u is wrong."""
    if kind == "confident mistakes":  # the error falls with the confidence and rises again
        return np.where(u < 0.04, 0.25, np.where(u < 0.4, 0.004, 0.3))
    return np.full_like(u, 0.05) if kind == "constant" else u**2 / 2


def draw(kind: str, images: int, seed: int) -> tuple[list[float], list[bool]]:
    """The confidences of random images, and whether their labels are right."""
    generator = np.random.default_rng(seed)
    u = generator.random(images)
    return confidence_of(u, kind).tolist(), (generator.random(images) >= error_of(u, kind)).tolist()


def true_error(threshold: float, kind: str) -> float:
    """The error of all images that are accepted, 0 where none is."""
    u = (np.arange(100_000) + 0.5) / 100_000
    errors = error_of(u, kind)[confidence_of(u, kind) >= threshold]
    return float(errors.mean()) if len(errors) else 0.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("images", [120, 600])
def test_the_promise_holds_for_nine_calibrations_in_ten(kind: str, images: int) -> None:
    """In 200 calibrations, a tenth at most, within noise, accept too many wrong images."""
    broken = dict.fromkeys(ERRORS, 0)
    for seed in range(ROUNDS):
        table = make_decision_table(*draw(kind, images, seed), levels=ERRORS)
        for error in ERRORS:
            broken[error] += true_error(table.find_threshold(error).probability, kind) > error
    assert max(broken.values()) / ROUNDS <= ALLOWED


def test_most_of_what_could_be_accepted_is() -> None:
    """With 2,000 images, at least three fifths of what the best threshold accepts, on average."""
    tables = [make_decision_table(*draw("honest", 2_000, seed), levels=ERRORS) for seed in range(10)]
    for error in ERRORS:
        best = math.sqrt(6 * error)  # the mean of u**2 / 2 over 0..best is best**2 / 6
        assert 0.6 * best <= np.mean([table.accepted_share(error) for table in tables]) <= best


def passes(right: int, wrong: int, error: Fraction) -> bool:
    """Whether P(Binomial(right + wrong, error) <= wrong) is at most 1 - CONFIDENCE, without rounding."""
    total = right + wrong
    terms = (math.comb(total, i) * error**i * (1 - error) ** (total - i) for i in range(wrong + 1))
    return sum(terms) <= Fraction(1, 10)


def test_the_last_test_is_that_of_exact_arithmetic() -> None:
    """The accepted images are those before the first test that fails, from the 24th image on, a tenth of them."""
    confidences, correct = draw("honest", 240, seed=2)
    ordered = sorted(zip(confidences, correct, strict=True), reverse=True)
    for error in (Fraction(1, 10), Fraction(3, 20), Fraction(1, 5)):
        count = 24
        while count < 240 and passes(
            sum(right for _, right in ordered[: count + 1]), sum(not right for _, right in ordered[: count + 1]), error
        ):
            count += 1
        table = make_decision_table(confidences, correct)
        assert 24 < count < 240
        assert table.accepted_share(float(error)) == count / 240
        assert table.find_threshold(float(error)).probability == ordered[count - 1][0]


def test_all_are_accepted_where_all_are_right() -> None:
    """230 right answers promise an error of 1 %, for any confidence; 229 do not, and then none is accepted."""
    table = make_decision_table([0.5 + i / 1000 for i in range(230)], [True] * 230)
    assert table.find_threshold(0.01) == Threshold(0.01, 0.0)
    assert table.accepted_share(0.01) == 1
    fewer = make_decision_table([0.9] * 229, [True] * 229)
    assert not fewer.find_threshold(0.01).accepts(1.0)
    assert fewer.accepted_share(0.01) == 0
    assert fewer.find_threshold(0.02).accepts(0.0)


def test_equal_confidences_are_accepted_together_or_not_at_all() -> None:
    """Of 100 images of which 40 share a confidence, with ten mistakes among them, the other 60 are accepted."""
    confidences, correct = [0.9] * 60 + [0.8] * 40, [True] * 60 + [False, True, True, True] * 10
    for order in (range(100), reversed(range(100))):
        places = list(order)
        table = make_decision_table([confidences[i] for i in places], [correct[i] for i in places])
        assert table.find_threshold(0.05) == Threshold(0.05, 0.9)
        assert table.accepted_share(0.05) == 0.6


def test_an_error_between_two_levels_gets_the_smaller_one_s_threshold() -> None:
    """Below the first level nothing is accepted."""
    table = DecisionTable(confidence=0.9, levels=(0.01, 0.02), thresholds=(0.9, 0.5), accepted=(0.3, 0.8))
    found = [table.find_threshold(error).probability for error in (1e-9, 0.0099, 0.01, 0.0199, 0.02, 0.999)]
    assert found == [NONE_ACCEPTED, NONE_ACCEPTED, 0.9, 0.9, 0.5, 0.5]
    assert [table.accepted_share(error) for error in (0.005, 0.015, 0.5)] == [0, 0.3, 0.8]


def test_a_table_is_small() -> None:
    """A thousand images of any kind give at most one row a level, and a row only where the threshold changes."""
    for kind in KINDS:
        table = make_decision_table(*draw(kind, 1_000, seed=0))
        assert len(table.levels) < 400 < len(LEVELS)
        assert all(a != b for a, b in zip(table.thresholds, table.thresholds[1:], strict=False))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"confidence": 1.0}, "confidence is 1.0, but must lie above 0 and below 1"),
        ({"levels": (0.1,)}, "levels, thresholds and accepted have 1, 2 and 2 values"),
        ({"levels": (0.2, 0.1)}, "levels has values that do not ascend"),
        ({"levels": (0.0, 0.1)}, "levels has values that do not ascend within"),
        ({"levels": (0.1, math.nan)}, "levels has values that do not ascend within"),
        ({"thresholds": (0.1, math.nan)}, r"thresholds has values outside 0\.\.2"),
        ({"thresholds": (-0.1, 0.2)}, r"thresholds has values outside 0\.\.2"),
        ({"accepted": (0.1, 1.1)}, r"accepted has values outside 0\.\.1"),
    ],
)
def test_a_table_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    """The field at fault is named with what is allowed."""
    fields: dict[str, Any] = {"confidence": 0.9, "levels": (0.1, 0.2), "thresholds": (0.9, 0.5), "accepted": (0.1, 0.2)}
    assert DecisionTable(**fields).confidence == 0.9
    with pytest.raises(ValueError, match=message):
        DecisionTable(**(fields | changes))
