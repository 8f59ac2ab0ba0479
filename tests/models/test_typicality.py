"""Typicality: the share of the calibration's images that fit the network no better than this one."""

import math

import numpy as np
import pytest
import torch
from crepes import ConformalClassifier  # type: ignore[import-untyped]

from models.probabilities import Calibration
from models.typicality import energy, typicality
from tests.fakes.calibrations import calibrated, drawn


def test_energy_is_that_of_the_definition() -> None:
    """The logits ln 1, ln 2, ln 5 have an energy of -ln 8; logits beyond exp's reach have a finite one."""
    assert energy(torch.tensor([[1.0, 2.0, 5.0]]).log()).tolist() == pytest.approx([-math.log(8)])
    assert energy(torch.tensor([[3e4, 0.0], [-3e4, -3e4]])).tolist() == pytest.approx([-3e4, 3e4 - math.log(2)])


def test_typicality_counts_those_that_fit_no_better() -> None:
    """Of energies 1, 2, 2, 3 and the image's own, those not below it are counted."""
    calibration = Calibration(kind="lac", images=4, scores=(0.0,) * 4, energies=(1.0, 2.0, 2.0, 3.0))
    energies = torch.tensor([0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5])
    logits = torch.stack([-energies, torch.full((7,), -1000.0)], dim=1)
    assert typicality(logits, calibration) == [1.0, 1.0, 0.8, 0.8, 0.4, 0.4, 0.2]


def test_typicality_is_crepes_p_value() -> None:
    """With all energies kept it is the p-value of conformal anomaly detection without smoothing."""
    (logits, labels), (others, _) = drawn(300, seed=0), drawn(200, seed=1)
    oracle = ConformalClassifier().fit(energy(logits).numpy())
    expected = oracle.predict_p(energy(others).numpy()[:, None], smoothing=False)[:, 0]
    assert np.allclose(typicality(others, calibrated(logits, labels, "aps")), expected)


@pytest.mark.parametrize("images", [50, 3_500])
def test_typicality_is_uniform_for_images_like_the_calibration_s(images: int) -> None:
    """At most the share p of them gets p or less, and hardly fewer; stranger images get less."""
    levels = np.array([0.02, 0.1, 0.25, 0.5, 0.75, 0.9])
    rounds, fresh, shares, strange = 60, 200, [], []
    for seed in range(rounds):
        logits, labels = drawn(images + fresh, seed)
        calibration = calibrated(logits[:images], labels[:images], "aps")
        values = np.array(typicality(logits[images:], calibration))
        assert 0 < values.min() <= values.max() <= 1
        shares.append((values[:, None] <= levels + 1e-12).mean(0))
        strange.append(np.mean(typicality(logits[images:] / 3, calibration)))
    noise = 4 * np.std(shares, axis=0) / math.sqrt(rounds)
    mean, resolution = np.mean(shares, axis=0), max(1 / images, 0.001)
    assert (mean <= levels + noise).all()
    assert (mean >= levels - resolution - noise).all()
    assert np.mean(strange) < 0.2


def test_typicality_from_quantiles_errs_to_the_larger_side() -> None:
    """Of 3,500 energies 999 give no less than all of them, and at most 0.1 percentage points more."""
    (logits, labels), (others, _) = drawn(3_500, seed=0), drawn(2_000, seed=1)
    values = np.array(typicality(others, calibrated(logits, labels, "lac")))
    own, energies = energy(others).numpy(), energy(logits).numpy()
    exact = (1 + (energies[None] >= own[:, None]).sum(1)) / 3_501
    assert (values >= exact - 1e-12).all()
    assert (values <= exact + 0.001 + 1e-12).all()
