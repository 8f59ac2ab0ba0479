"""The golden sample: recorded in evaluation mode, compared by probability."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from models.golden import GoldenSample, golden_pixels, largest_probability_change, record_golden_sample, synthetic_image
from models.networks.registry import Architecture, build_network
from models.normalise import normalise
from models.preprocess import Preprocessing, preprocess
from models.probabilities import softmax

PREPROCESSING = Preprocessing(32, 40, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8))


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_network(Architecture("vgg11_bn", 4, input_size=32, width=1 / 16))


def test_the_stored_image_is_the_recorded_one() -> None:
    """The PNG gives the pixels of the image that was recorded, in an array of its own."""
    stored = golden_pixels(record_golden_sample(network(), PREPROCESSING, picture()).image, PREPROCESSING)
    assert np.array_equal(stored, preprocess(picture(), PREPROCESSING))
    assert stored.flags.writeable


def test_logits_are_those_of_evaluation() -> None:
    """The logits are the network's own in evaluation mode, to the last bit of float32."""
    model = network()
    golden = record_golden_sample(model, PREPROCESSING, picture())
    batch = torch.from_numpy(golden_pixels(golden.image, PREPROCESSING)[None])
    with torch.inference_mode():
        logits = model.eval()(normalise(batch, PREPROCESSING))[0]
    assert golden.logits == tuple(logits.tolist())


def test_recording_leaves_the_network_as_it_was() -> None:
    """Neither its mode nor its batch statistics change."""
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    record_golden_sample(model, PREPROCESSING, picture())
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    record_golden_sample(model.eval(), PREPROCESSING, picture())
    assert not model.training


def test_deviation_is_of_the_probabilities() -> None:
    """It is 0 for the recorded logits and for any that a constant was added to, else the largest difference."""
    golden = GoldenSample(b"", (0.0, math.log(3)))  # 1/4, 3/4
    assert largest_probability_change(golden, torch.tensor([0.0, math.log(3)])) == 0
    assert largest_probability_change(golden, torch.tensor([5.0, 5 + math.log(3)])) == pytest.approx(0, abs=1e-6)
    assert largest_probability_change(golden, torch.tensor([0.0, 0.0])) == pytest.approx(0.25)


def test_deviation_knows_the_temperature() -> None:
    """Logits are compared as they are served, divided by the temperature."""
    logits = torch.tensor([[0.0, 2.0], [0.0, 3.0]])
    served = softmax(logits, 4.0)
    expected = (served[0] - served[1]).abs().max().item()
    assert largest_probability_change(GoldenSample(b"", (0.0, 2.0)), logits[1], temperature=4.0) == pytest.approx(
        expected
    )


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_broken_logits_deviate_infinitely(broken: float) -> None:
    """A network that gives no numbers never passes."""
    assert largest_probability_change(GoldenSample(b"", (0.0, 1.0)), torch.tensor([0.0, broken])) == math.inf


def test_half_precision_is_compared_too() -> None:
    """Logits of any float type may be compared."""
    assert (
        largest_probability_change(GoldenSample(b"", (0.0, 1.0)), torch.tensor([0.0, 1.0], dtype=torch.bfloat16)) == 0
    )


def test_the_synthetic_image_is_always_the_same_and_colourful() -> None:
    """It uses nearly the whole range of every channel, smoothly enough to survive a resize."""
    values = np.asarray(synthetic_image(64)).astype(int)  # (64, 64, 3)
    assert np.array_equal(values, np.asarray(synthetic_image(64)))
    assert (values.min(axis=(0, 1)) < 40).all()
    assert (values.max(axis=(0, 1)) > 215).all()
    assert np.abs(np.diff(values, axis=1)).mean() < values.std() / 2
