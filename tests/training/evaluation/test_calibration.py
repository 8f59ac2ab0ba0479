"""Calibration: the temperature, the score tables, and the coverage and typicality that they give."""

import math

import numpy as np
import pytest
import torch
from torchmetrics.classification import BinaryAUROC

from models.decisions import make_decision_table
from models.probabilities import KINDS, softmax
from models.typicality import typicality
from tests.fakes.logits import draw_logits
from training.evaluation.calibration import (
    TEMPERATURES,
    CalibrationError,
    calibrate,
    check_calibration_size,
    fit_temperature,
    typicality_auroc,
)
from training.evaluation.metrics import COVERAGES, measure_coverage, measure_decision, negative_log_likelihood


@pytest.mark.parametrize("factor", [0.1, 0.5, 1.0, 3.0, 20.0])
def test_a_known_temperature_is_found(factor: float) -> None:
    """If the logits are too large or too small by a factor, the temperature is that factor within 3 %."""
    assert fit_temperature(*draw_logits(20_000, seed=0, factor=factor)) == pytest.approx(factor, rel=0.03)


@pytest.mark.parametrize("factor", [0.02, 3.0, 50.0])
@pytest.mark.parametrize("count", [20, 300])
def test_the_temperature_minimises_the_loss(factor: float, count: int) -> None:
    """No temperature on a fine grid has a smaller loss with the smoothed labels."""
    logits, labels = draw_logits(count, seed=1, factor=factor)

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
    """This holds for 20 images with logits of any scale, and for labels that are random, all wrong or all correct."""
    for seed in range(5):
        torch.manual_seed(seed)
        logits = scale * torch.randn(20, classes)
        for labels in (torch.randint(classes, (20,)), logits.argmin(1), logits.argmax(1)):
            temperature = fit_temperature(logits, labels)
            assert TEMPERATURES[0] <= temperature <= TEMPERATURES[1]
            one = negative_log_likelihood(logits, labels, 1.0)
            assert negative_log_likelihood(logits, labels, temperature) <= one


def test_a_network_that_is_always_correct_gets_no_probability_of_one() -> None:
    """With 50 of 50 images correct, the other labels keep a probability near 1 / 51."""
    labels = torch.arange(50) % 5
    logits = 0.1 * torch.eye(5)[labels]
    assert 0.003 < 1 - float(softmax(logits, fit_temperature(logits, labels)).max()) < 0.03


def test_equal_logits_keep_a_temperature_of_one() -> None:
    """If all logits are equal, no temperature is better than another."""
    assert fit_temperature(torch.zeros(30, 4), torch.arange(30) % 4) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_calibration_reaches_the_requested_coverage(kind: str) -> None:
    """The temperature is fitted on the same few images. The mean over many calibrations is on other images."""
    shares: dict[float, list[float]] = {coverage: [] for coverage in COVERAGES}
    for seed in range(150):
        logits, labels = draw_logits(160, seed, factor=2.5)
        temperature, calibration = calibrate(logits[:60], labels[:60], kind)
        assert (calibration.kind, calibration.images, len(calibration.scores)) == (kind, 60, 60)
        for coverage in COVERAGES:
            result = measure_coverage(softmax(logits[60:], temperature), labels[60:], calibration, coverage)
            shares[coverage].append(result.empirical)
    for coverage, empirical in shares.items():
        assert coverage - 4 * np.std(empirical) / math.sqrt(150) <= np.mean(empirical)


def test_decisions_keep_their_promise_with_a_fitted_temperature() -> None:
    """The temperature is fitted on the same 150 images. In a tenth of the calibrations, within noise, or fewer, more
    than the largest error of the accepted images is wrong.
    """
    rounds, errors = 200, (0.2, 0.3)
    others, truth = draw_logits(20_000, seed=10_000, factor=2.5)
    broken = dict.fromkeys(errors, 0)
    for seed in range(rounds):
        logits, labels = draw_logits(150, seed, factor=2.5)
        temperature = fit_temperature(logits, labels)
        confidences, predicted = softmax(logits, temperature).max(dim=1)
        table = make_decision_table(confidences.tolist(), (predicted == labels).tolist(), levels=errors)
        probabilities = softmax(others, temperature)
        for error in errors:
            result = measure_decision(probabilities, truth, table, error)
            broken[error] += result.wrong > error * result.accepted
    assert 0 < max(broken.values()) / rounds <= 0.1 + 3 * math.sqrt(0.09 / rounds)


def test_classes_may_be_missing() -> None:
    """A split without images of some classes can be calibrated."""
    logits, labels = draw_logits(400, seed=0, classes=8)
    few = labels < 3
    temperature, calibration = calibrate(logits[few], labels[few])
    assert 0.3 < temperature < 1.5
    assert calibration.images == int(few.sum())


def test_too_few_images_are_refused() -> None:
    """19 images are too few, and the message names the minimum."""
    logits, labels = draw_logits(20, seed=0)
    assert calibrate(logits, labels)[1].images == 20
    with pytest.raises(CalibrationError, match="the calibration split has 19 images, but needs at least 20"):
        calibrate(logits[:19], labels[:19])
    with pytest.raises(CalibrationError, match="has 0 images"):
        check_calibration_size(0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_refused(value: float) -> None:
    """A single such logit is an error."""
    logits, labels = draw_logits(20, seed=0)
    logits[3, 1] = value
    with pytest.raises(CalibrationError, match="not finite"):
        calibrate(logits, labels)


def test_typicality_auroc_is_that_of_torchmetrics() -> None:
    """Ties count the same. Compared with the same images it is 1/2."""
    _, calibration = calibrate(*draw_logits(30, seed=0))  # so few that many images share a value
    own, foreign = draw_logits(500, seed=1)[0], draw_logits(400, seed=2)[0] / 3
    scores = torch.tensor(typicality(own, calibration) + typicality(foreign, calibration))
    expected = BinaryAUROC()(scores, torch.tensor([1] * 500 + [0] * 400))
    assert typicality_auroc(own, foreign, calibration) == pytest.approx(float(expected), abs=1e-6)
    assert expected > 0.7
    assert typicality_auroc(own, own, calibration) == 0.5
