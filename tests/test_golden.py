"""The golden sample: recorded in evaluation mode, compared by probability."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from models.golden import Golden, deviation, golden_pixels, record
from models.preprocess import Preprocessing, normalise, pixels
from models.probabilities import softmax
from models.registry import Architecture, build

PREPROCESSING = Preprocessing(32, 40, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8))


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build(Architecture("vgg11_bn", 4, input_size=32, width=1 / 16))


def test_the_stored_image_is_the_recorded_one() -> None:
    """The PNG gives the pixels of the image that was recorded, in an array of its own."""
    stored = golden_pixels(record(network(), PREPROCESSING, picture()).image, PREPROCESSING)
    assert np.array_equal(stored, pixels(picture(), PREPROCESSING))
    assert stored.flags.writeable


def test_logits_are_those_of_evaluation() -> None:
    """The logits are the network's own in evaluation mode, to the last bit of float32."""
    model = network()
    golden = record(model, PREPROCESSING, picture())
    batch = torch.from_numpy(golden_pixels(golden.image, PREPROCESSING)[None])
    with torch.inference_mode():
        logits = model.eval()(normalise(batch, PREPROCESSING))[0]
    assert golden.logits == tuple(logits.tolist())


def test_recording_leaves_the_network_as_it_was() -> None:
    """Neither its mode nor its batch statistics change."""
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    record(model, PREPROCESSING, picture())
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    record(model.eval(), PREPROCESSING, picture())
    assert not model.training


def test_deviation_is_of_the_probabilities() -> None:
    """It is 0 for the recorded logits and for any that a constant was added to, else the largest difference."""
    golden = Golden(b"", (0.0, math.log(3)))  # 1/4, 3/4
    assert deviation(golden, torch.tensor([0.0, math.log(3)])) == 0
    assert deviation(golden, torch.tensor([5.0, 5 + math.log(3)])) == pytest.approx(0, abs=1e-6)
    assert deviation(golden, torch.tensor([0.0, 0.0])) == pytest.approx(0.25)


def test_deviation_knows_the_temperature() -> None:
    """Logits are compared as they are served, divided by the temperature."""
    logits = torch.tensor([[0.0, 2.0], [0.0, 3.0]])
    served = softmax(logits, 4.0)
    expected = (served[0] - served[1]).abs().max().item()
    assert deviation(Golden(b"", (0.0, 2.0)), logits[1], temperature=4.0) == pytest.approx(expected)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_broken_logits_deviate_infinitely(broken: float) -> None:
    """A network that gives no numbers never passes."""
    assert deviation(Golden(b"", (0.0, 1.0)), torch.tensor([0.0, broken])) == math.inf


def test_half_precision_is_compared_too() -> None:
    """Logits of any float type may be compared."""
    assert deviation(Golden(b"", (0.0, 1.0)), torch.tensor([0.0, 1.0], dtype=torch.bfloat16)) == 0
