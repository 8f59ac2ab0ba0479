"""Softmax, applied once, in one place; and what a calibration makes of its probabilities."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from crepes import ConformalClassifier  # type: ignore[import-untyped]
from numpy.typing import NDArray
from torch import Tensor

from models.probabilities import (
    KINDS,
    Calibration,
    ClassTables,
    prediction_sets,
    quantile_table,
    ranked_scores,
    softmax,
)
from tests.fakes.calibrations import calibrated, drawn, scores_of

COVERAGES = (0.5, 0.8, 0.9, 0.95, 0.99)


def toy(kind: str, scores: tuple[float, ...]) -> Calibration:
    return Calibration(kind=kind, images=len(scores), scores=scores, energies=(0.0,) * len(scores))


def kept(logits: Tensor, labels: Tensor, calibration: Calibration, coverage: float) -> float:
    """The share of images whose set has their label."""
    sets = prediction_sets(softmax(logits), calibration, coverage)
    return sum(label in found for label, found in zip(labels.tolist(), sets, strict=True)) / len(labels)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_probabilities_sum_to_one(dtype: torch.dtype) -> None:
    """Whatever the logits' type, each row is float32 and sums to 1 within float32's rounding."""
    torch.manual_seed(0)
    probabilities = softmax(torch.randn(16, 1000).to(dtype))
    assert probabilities.dtype == torch.float32
    assert probabilities.shape == (16, 1000)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(16), rtol=0, atol=1e-6)


def test_values_are_those_of_the_definition() -> None:
    """The logits ln 1, ln 2, ln 5 give 1/8, 2/8, 5/8."""
    torch.testing.assert_close(softmax(torch.tensor([[1.0, 2.0, 5.0]]).log()), torch.tensor([[0.125, 0.25, 0.625]]))


def test_extreme_logits_stay_finite() -> None:
    """Logits far beyond what exp can hold give probabilities of 0 and 1."""
    assert softmax(torch.tensor([[1e30, -1e30, 0.0]])).tolist() == [[1.0, 0.0, 0.0]]


def test_temperature_divides_the_logits() -> None:
    """A temperature of 2 flattens: it is softmax of the logits' halves."""
    logits = torch.tensor([[4.0, 2.0, 0.0]])
    assert torch.equal(softmax(logits, temperature=2.0), softmax(logits / 2))
    assert softmax(logits, temperature=2.0).max() < softmax(logits).max()


def test_scores_are_those_of_the_definition() -> None:
    """LAC scores a label by what it lacks to 1, APS by the sum of those before it, along falling probability."""
    probabilities = torch.tensor([[0.125, 0.5, 0.25, 0.125]])
    labels, lac = ranked_scores(probabilities, "lac")
    assert labels.tolist() == [[1, 2, 0, 3]]  # equal ones in the order of the labels
    assert lac.tolist() == [[0.5, 0.75, 0.875, 0.875]]
    assert ranked_scores(probabilities, "aps")[1].tolist() == [[0.0, 0.5, 0.75, 0.875]]


@pytest.mark.parametrize("kind", KINDS)
def test_scores_never_fall_along_a_row(kind: str) -> None:
    """Also where the last of a thousand probabilities are lost in rounding."""
    torch.manual_seed(0)
    scores = ranked_scores(softmax(20 * torch.randn(100, 1000)), kind)[1]
    assert bool((scores.diff(dim=1) >= 0).all())


@pytest.mark.parametrize(
    ("kind", "threshold", "expected"),
    [
        ("lac", 0.49, [1]),  # not even the top label's score is that low
        ("lac", 0.75, [1, 2]),
        ("lac", 0.874, [1, 2]),
        ("lac", 0.875, [1, 2, 0, 3]),
        ("aps", 0.0, [1]),
        ("aps", 0.49, [1]),
        ("aps", 0.5, [1, 2]),
        ("aps", 0.8, [1, 2, 0]),
        ("aps", 1.0, [1, 2, 0, 3]),
    ],
)
def test_a_set_has_the_labels_up_to_the_threshold(kind: str, threshold: float, expected: list[int]) -> None:
    """The most probable comes first and is always there; a tie goes with the lower index."""
    calibration = toy(kind, (threshold,) * 9)
    assert prediction_sets(torch.tensor([[0.125, 0.5, 0.25, 0.125]]), calibration, 0.9) == [expected]


@pytest.mark.parametrize("kind", KINDS)
def test_a_set_is_the_same_in_any_batch(kind: str) -> None:
    """Each image gets, alone or among others and every time, the same set."""
    logits, labels = drawn(300, seed=0)
    calibration, probabilities = calibrated(logits, labels, kind), softmax(drawn(50, seed=1)[0])
    together = prediction_sets(probabilities, calibration, 0.9)
    assert together == [prediction_sets(row[None], calibration, 0.9)[0] for row in probabilities]
    assert len({len(found) for found in together}) > 1


def scores_by_definition(probabilities: Tensor, kind: str) -> NDArray[np.float64]:
    """Each label's conformal score, in the order of the labels, found without sorting."""
    p: NDArray[np.float64] = probabilities.double().numpy()
    before = p[:, None, :] > p[:, :, None]  # (N, label, other): is the other one more probable
    return 1 - p if kind == "lac" else (before * p[:, None, :]).sum(2)


@pytest.mark.parametrize("kind", KINDS)
def test_sets_are_those_of_crepes(kind: str) -> None:
    """With all scores kept, a label is in the set exactly where crepes' p-value lies above 1 - coverage."""
    (logits, labels), (others, _) = drawn(140, seed=0), drawn(200, seed=1)
    calibration, probabilities = calibrated(logits, labels, kind), softmax(others)
    own = scores_by_definition(softmax(logits), kind)[range(140), labels]
    oracle = ConformalClassifier().fit(own)
    for coverage in COVERAGES:
        alphas = scores_by_definition(probabilities, kind)
        member = oracle.predict_set(alphas, confidence=coverage, smoothing=False).astype(bool)
        member[range(200), probabilities.argmax(1)] = True  # ours are never empty
        sets = prediction_sets(probabilities, calibration, coverage)
        assert [sorted(found) for found in sets] == [np.flatnonzero(row).tolist() for row in member]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("images", [20, 57, 400])
def test_coverage_is_kept(kind: str, images: int) -> None:
    """Over many calibrations of however few images, each coverage is kept, and by not much more than it has to be."""
    rounds, fresh = 150, 100
    for coverage in (0.8, 0.9, 0.95):
        shares = []
        for seed in range(rounds):
            logits, labels = drawn(images + fresh, seed)
            calibration = calibrated(logits[:images], labels[:images], kind)
            shares.append(kept(logits[images:], labels[images:], calibration, coverage))
        noise = 4 * np.std(shares) / math.sqrt(rounds)
        assert coverage - noise <= np.mean(shares) <= coverage + 1 / (images + 1) + noise


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_of_quantiles_keeps_coverage(kind: str) -> None:
    """A table of 999 of 3,500 scores covers no less than they do, and at most 0.1 percentage points more."""
    logits, labels = drawn(3_500, seed=0)
    calibration, scores = calibrated(logits, labels, kind), sorted(scores_of(logits, labels, kind).tolist())
    others, truth = drawn(20_000, seed=1)
    others_scores = scores_of(others, truth, kind)
    assert len(calibration.scores) == 999
    for coverage in (0.8, 0.8001, 0.9, 0.95555, 0.99, 0.998):
        least, most = (scores[math.ceil(3_501 * c) - 1] for c in (coverage, coverage + 0.001))
        shares = [float((others_scores <= threshold).double().mean()) for threshold in (least, most)]
        assert shares[0] <= kept(others, truth, calibration, coverage) <= shares[1]


@pytest.mark.parametrize("images", [99, 999, 12_345])
def test_coverages_of_three_decimals_are_exact(images: int) -> None:
    """For each per mille the threshold is the very score that all the scores would give, whatever floats do."""
    scores = [i / 2**14 for i in range(images)]  # exact in binary, and so is 1 - such a score
    quantiles = quantile_table(scores)
    calibration = Calibration(kind="lac", images=images, scores=quantiles, energies=quantiles)
    for mille in range(1, 991):
        threshold = scores[-(-(images + 1) * mille // 1000) - 1]
        row = 1 - torch.tensor([[-1.0, threshold, threshold + 2**-14]], dtype=torch.float64)
        assert prediction_sets(row, calibration, mille / 1000) == [[0, 1]]


@pytest.mark.parametrize("kind", KINDS)
def test_more_coverage_gives_a_superset(kind: str) -> None:
    """A set of a larger coverage begins with the set of a smaller one."""
    calibration, probabilities = calibrated(*drawn(5_000, seed=0), kind), softmax(drawn(100, seed=1)[0])
    previous = prediction_sets(probabilities, calibration, 1e-300)
    assert all(len(found) == 1 for found in previous)
    for coverage in (*np.linspace(0.01, 0.99, 99), 0.999, 1 - 1e-6):
        sets = prediction_sets(probabilities, calibration, float(coverage))
        assert all(found[: len(smaller)] == smaller for found, smaller in zip(sets, previous, strict=True))
        previous = sets
    assert all(len(found) == 6 for found in previous)


@pytest.mark.parametrize("kind", KINDS)
def test_what_few_scores_cannot_promise_takes_all_labels(kind: str) -> None:
    """Of 20 images the worst score promises 20/21; one promille more takes every label."""
    calibration, probabilities = calibrated(*drawn(20, seed=0), kind), softmax(drawn(200, seed=1)[0])
    assert any(len(found) < 6 for found in prediction_sets(probabilities, calibration, 20 / 21))
    for coverage in (20 / 21 + 0.001, 0.99, 0.999):
        assert prediction_sets(probabilities, calibration, coverage) == ranked_scores(probabilities, kind)[0].tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "raps"}, "kind is 'raps', but must be one of lac, aps"),
        ({"images": 0}, "images is 0, but must lie in 1..2"),
        ({"images": 4}, "scores has 3 values, but 4 images give 4"),
        ({"images": 1000}, "scores has 3 values, but 1000 images give 999"),
        ({"energies": (1.0,)}, "energies has 1 values, but 3 images give 3"),
        ({"scores": (0.3, 0.2, 0.4)}, "scores has values that are not finite or do not ascend"),
        ({"energies": (0.1, 0.2, math.inf)}, "energies has values that are not finite or do not ascend"),
        ({"energies": (math.nan, 0.2, 0.3)}, "energies has values that are not finite or do not ascend"),
    ],
)
def test_a_calibration_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    """The field at fault is named with its value and what is allowed."""
    fields: dict[str, Any] = {"kind": "lac", "images": 3, "scores": (0.1, 0.2, 0.2), "energies": (-2.0, -1.0, 0.0)}
    assert Calibration(**fields).images == 3
    with pytest.raises(ValueError, match=message):
        Calibration(**(fields | changes))


def drawn_unequal(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Logits of three labels, of which the last is recognised far worse than the others."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=generator)
    return torch.randn((count, 3), generator=generator) + torch.tensor([4.0, 3.0, 0.5]).diag()[labels], labels


@pytest.mark.parametrize("kind", KINDS)
def test_each_label_keeps_its_coverage(kind: str) -> None:
    """Over many calibrations the sets by class cover each label, of which one threshold for all leaves one out."""
    rounds, coverage = 150, 0.9
    shares = np.zeros((2, rounds, 3))
    for seed in range(rounds):
        logits, labels = drawn_unequal(300, seed)
        calibration, probabilities = calibrated(logits[:150], labels[:150], kind), softmax(logits[150:])
        for row, per_class in enumerate((False, True)):
            sets = prediction_sets(probabilities, calibration, coverage, per_class=per_class)
            found = np.array([label in kept for label, kept in zip(labels[150:].tolist(), sets, strict=True)])
            shares[row, seed] = [found[labels[150:].numpy() == label].mean() for label in range(3)]
    together, by_class = shares.mean(axis=1)
    assert together.min() < coverage - 0.05
    assert (by_class >= coverage - 4 * shares[1].std(axis=0) / math.sqrt(rounds)).all()


def test_a_set_by_class_is_that_of_the_labels_thresholds() -> None:
    """A label is in where its score is up to its own threshold; one without images always; and the top label."""
    tables = ClassTables(images=(9, 9, 0), scores=((0.3,) * 9, (0.7,) * 9, ()))
    calibration = Calibration(kind="lac", images=18, scores=(0.5,) * 18, energies=(0.0,) * 18, by_class=tables)
    rows = torch.tensor([[0.5, 0.375, 0.125], [0.25, 0.25, 0.5]])
    assert prediction_sets(rows, calibration, 0.9, per_class=True) == [[0, 1, 2], [2]]


def test_a_shortage_is_that_of_the_label_with_the_fewest_images() -> None:
    """A coverage of 90 % needs nine images, 99 % ninety-nine, and a tiny one needs one."""
    tables = ClassTables(images=(20, 9, 30), scores=((0.1,) * 20, (0.1,) * 9, (0.1,) * 30))
    assert [tables.find_shortage(coverage) for coverage in (1e-300, 0.5, 0.9, 0.901, 0.99)] == [
        *(None, None, None),
        *((1, 10), (1, 99)),
    ]
    assert tables.find_shortage(1 - 2**-53) is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": (2,)}, "images has 1 counts, but there are 2 tables"),
        ({"images": (2, -1)}, "images has -1, but must lie in 0..2"),
        ({"images": (2, 3)}, r"scores\.1 has 1 values, but 3 images give 3"),
        ({"scores": ((0.2, 0.1), (0.5,))}, r"scores\.0 has values that are not finite or do not ascend"),
    ],
)
def test_class_tables_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    """The field at fault is named with its value and what is allowed."""
    fields: dict[str, Any] = {"images": (2, 1), "scores": ((0.1, 0.2), (0.5,))}
    tables = ClassTables(**fields)
    with pytest.raises(ValueError, match=message):
        ClassTables(**(fields | changes))
    with pytest.raises(ValueError, match="by_class has 3 images, but must have 2"):
        Calibration(kind="lac", images=2, scores=(0.1, 0.2), energies=(0.0, 0.0), by_class=tables)
