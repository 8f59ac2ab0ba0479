"""Calibration: temperature, tables, and the figures that say how good they are."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss, log_loss
from torch import Tensor
from torchmetrics.classification import BinaryAUROC, MulticlassCalibrationError

from models.probabilities import KINDS, Calibration, softmax, typicality
from training.evaluation.calibration import (
    COVERAGES,
    TEMPERATURES,
    CalibrationError,
    CoverageResult,
    calibrate,
    calibration_metrics,
    check_calibration_size,
    expected_calibration_error,
    fit_temperature,
    measure_coverage,
    negative_log_likelihood,
    probability_metrics,
    reliability,
    typicality_auroc,
)


def drawn(count: int, seed: int, factor: float = 1.0, classes: int = 5) -> tuple[Tensor, Tensor]:
    """Logits of a network whose right temperature is `factor`, with labels drawn from what it ought to say."""
    generator = torch.Generator().manual_seed(seed)
    logits = 1.5 * torch.randn((count, classes), generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return factor * logits, labels


@pytest.mark.parametrize("factor", [0.1, 0.5, 1.0, 3.0, 20.0])
def test_the_temperature_is_found(factor: float) -> None:
    """A network that is too sure, or not sure enough, by a known factor gets that factor within 3 %."""
    assert fit_temperature(*drawn(20_000, seed=0, factor=factor)) == pytest.approx(factor, rel=0.03)


@pytest.mark.parametrize("factor", [0.02, 3.0, 50.0])
@pytest.mark.parametrize("count", [20, 300])
def test_the_temperature_is_the_best_there_is(factor: float, count: int) -> None:
    """No temperature on a fine grid makes the labels, one unknown label among them, more likely."""
    logits, labels = drawn(count, seed=1, factor=factor)

    def loss(temperature: float) -> float:
        smoothing = 1 / (count + 1)
        log_probabilities = (logits.double() / temperature).log_softmax(1)
        own = log_probabilities[range(count), labels]
        return -float(((1 - smoothing) * own + smoothing * log_probabilities.mean(1)).mean())

    best = min(loss(temperature) for temperature in np.geomspace(*TEMPERATURES, 5_000))
    assert loss(fit_temperature(logits, labels)) <= best + 1e-7


@pytest.mark.parametrize("classes", [2, 5, 100])
@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1.0, 1e2, 1e6, 1e30])
def test_the_temperature_is_bounded_and_never_worse_than_one(scale: float, classes: int) -> None:
    """Whatever the logits, with labels that are random or all wrong, and on a handful of images."""
    for seed in range(5):
        torch.manual_seed(seed)
        logits = scale * torch.randn(20, classes)
        for labels in (torch.randint(classes, (20,)), logits.argmin(1), logits.argmax(1)):
            temperature = fit_temperature(logits, labels)
            assert TEMPERATURES[0] <= temperature <= TEMPERATURES[1]
            one = negative_log_likelihood(logits, labels, 1.0)
            assert negative_log_likelihood(logits, labels, temperature) <= one


def test_a_network_that_is_always_right_is_not_made_certain() -> None:
    """With 50 of 50 right, the probability that remains for a mistake is not far from one in 51."""
    labels = torch.arange(50) % 5
    logits = 0.1 * torch.eye(5)[labels]
    assert 0.003 < 1 - float(softmax(logits, fit_temperature(logits, labels)).max()) < 0.03


def test_logits_that_say_nothing_are_left_alone() -> None:
    """Where all logits are equal no temperature is better than another, and it stays 1."""
    assert fit_temperature(torch.zeros(30, 4), torch.arange(30) % 4) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_calibration_is_made_and_keeps_its_promise(kind: str) -> None:
    """With a temperature from the same images, coverages are kept on others, over many calibrations of few."""
    shares: dict[float, list[float]] = {coverage: [] for coverage in COVERAGES}
    for seed in range(150):
        logits, labels = drawn(160, seed, factor=2.5)
        temperature, calibration = calibrate(logits[:60], labels[:60], kind)
        assert (calibration.kind, calibration.images, len(calibration.scores)) == (kind, 60, 60)
        for coverage in COVERAGES:
            promise = measure_coverage(softmax(logits[60:], temperature), labels[60:], calibration, coverage)
            shares[coverage].append(promise.kept)
    for coverage, kept in shares.items():
        assert coverage - 4 * np.std(kept) / math.sqrt(150) <= np.mean(kept)


def test_classes_may_be_missing() -> None:
    """A split without images of some classes is calibrated all the same."""
    logits, labels = drawn(400, seed=0, classes=8)
    few = labels < 3
    temperature, calibration = calibrate(logits[few], labels[few])
    assert 0.3 < temperature < 1.5
    assert calibration.images == int(few.sum())


def test_too_few_images_are_refused() -> None:
    """19 images are too few, and the message says how many it takes."""
    logits, labels = drawn(20, seed=0)
    assert calibrate(logits, labels)[1].images == 20
    with pytest.raises(CalibrationError, match="the calibration split has 19 images, but needs at least 20"):
        calibrate(logits[:19], labels[:19])
    with pytest.raises(CalibrationError, match="has 0 images"):
        check_calibration_size(0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_refused(value: float) -> None:
    """One logit that is not a number spoils no table in silence."""
    logits, labels = drawn(20, seed=0)
    logits[3, 1] = value
    with pytest.raises(CalibrationError, match="not finite"):
        calibrate(logits, labels)


@pytest.mark.parametrize("classes", [2, 10])
def test_figures_are_those_of_others(classes: int) -> None:
    """ECE is torchmetrics' with 15 bins, NLL and Brier are scikit-learn's."""
    logits, labels = drawn(2_000, seed=0, factor=2.0, classes=classes)
    probabilities, found = softmax(logits, 1.3), probability_metrics(logits, labels, 1.3)
    ece = MulticlassCalibrationError(classes, n_bins=15, norm="l1")(probabilities, labels)
    assert found["ece"] == pytest.approx(float(ece), abs=1e-6)
    exact = (logits.double() / 1.3).softmax(1).numpy()
    names = list(range(classes))
    assert found["nll"] == pytest.approx(log_loss(labels.numpy(), exact, labels=names))
    expected = brier_score_loss(labels.numpy(), exact, labels=names, scale_by_half=False)
    assert found["brier"] == pytest.approx(expected, abs=1e-6)


def test_bins_are_counted_by_hand() -> None:
    """Confidences of 1/2 (on the edge), 3/4, 3/4 and 1 in four bins, of which one is empty."""
    probabilities = torch.tensor([[0.5, 0.25, 0.25], [0.75, 0.25, 0.0], [0.0, 0.75, 0.25], [0.0, 0.0, 1.0]])
    bins = reliability(probabilities, torch.tensor([0, 1, 1, 2]), bins=4)
    assert [(b.low, b.high, b.images) for b in bins] == [(0, 0.25, 0), (0.25, 0.5, 1), (0.5, 0.75, 2), (0.75, 1, 1)]
    assert [(b.confidence, b.accuracy) for b in bins[1:]] == [(0.5, 1.0), (0.75, 0.5), (1.0, 1.0)]
    assert math.isnan(bins[0].confidence)
    assert expected_calibration_error(bins) == (0.5 + 2 * 0.25) / 4


def test_a_promise_is_counted_by_hand() -> None:
    """With a threshold of 3/4 the sets have 2, 2 and 1 labels, and two of three have the right one."""
    calibration = Calibration(kind="lac", images=9, scores=(0.75,) * 9, energies=(0.0,) * 9)
    probabilities = torch.tensor([[0.5, 0.25, 0.25 - 1e-6, 1e-6], [0.25, 0.5, 0.125, 0.125], [0.9, 0.1, 0.0, 0.0]])
    assert measure_coverage(probabilities, torch.tensor([1, 2, 0]), calibration, 0.9) == CoverageResult(
        0.9, 2 / 3, 5 / 3
    )


def test_calibrating_makes_an_overconfident_network_honest() -> None:
    """NLL, Brier and ECE of other images fall, every coverage is kept, and larger ones need larger sets."""
    temperature, calibration = calibrate(*drawn(3_000, seed=0, factor=3.0))
    found = calibration_metrics(*drawn(3_000, seed=1, factor=3.0), temperature, calibration)
    for name in ("nll", "brier", "ece"):
        assert found[name] < found[f"{name}_uncalibrated"]
    assert found["ece"] < 0.03
    assert [found[f"coverage_{c}"] for c in (80, 90, 95, 99)] == pytest.approx(COVERAGES, abs=0.02)
    sizes = [found[f"set_size_{c}"] for c in (80, 90, 95, 99)]
    assert 1 <= sizes[0] < sizes[1] < sizes[2] < sizes[3] <= 5
    assert all(isinstance(value, float) for value in found.values())


def test_typicality_s_auroc_is_that_of_others() -> None:
    """It is torchmetrics' AUROC of the typicalities, ties included; against images of its own kind it is 1/2."""
    _, calibration = calibrate(*drawn(30, seed=0))  # so few that many images share a value
    own, foreign = drawn(500, seed=1)[0], drawn(400, seed=2)[0] / 3
    scores = torch.tensor(typicality(own, calibration) + typicality(foreign, calibration))
    expected = BinaryAUROC()(scores, torch.tensor([1] * 500 + [0] * 400))
    assert typicality_auroc(own, foreign, calibration) == pytest.approx(float(expected), abs=1e-6)
    assert expected > 0.7
    assert typicality_auroc(own, own, calibration) == 0.5
