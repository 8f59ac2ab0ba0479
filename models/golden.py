"""The golden sample: one image, and the logits that the trained network gave for it.

Owns making the sample and comparing with it. Before a server is ready, it compares its own logits for the image, on its
device and in its precision, with those of the sample.
"""

import io
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from pydantic import ConfigDict
from torch import Tensor, nn

from models.formats.plain import ImageFault, TooManyPixels
from models.image_files import read_pixels
from models.normalise import normalise
from models.preprocess import Pixels, Preprocessing
from models.probabilities import softmax

MAX_PIXELS = 2**25  # of the stored image, for which the largest preprocessing needs 2^24


@dataclass(frozen=True, slots=True)
class GoldenSample:
    """`image` is a PNG file's bytes, `logits` the K float32 logits for it."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(val_json_bytes="base64")  # as checkpoints store it
    image: bytes
    logits: tuple[float, ...]


def record_golden_sample(model: nn.Module, preprocessing: Preprocessing, image: Image.Image) -> GoldenSample:
    """Runs `model` on `image`, in evaluation mode and float32, on the device of the model."""
    png = io.BytesIO()
    image.save(png, "PNG")
    device = next(model.parameters()).device
    batch = torch.from_numpy(golden_pixels(png.getvalue(), preprocessing)[None]).to(device)
    was_training = model.training
    with torch.inference_mode():
        logits = model.eval()(normalise(batch, preprocessing))[0]
    model.train(was_training)
    return GoldenSample(png.getvalue(), tuple(logits.float().tolist()))


def synthetic_image(size: int) -> Image.Image:
    """A colourful size x size image for the golden sample, always the same."""
    y, x = np.mgrid[0:size, 0:size] / size
    gradients = np.stack([x, y, 1 - (x + y) / 2], axis=2)  # (S, S, 3), 0 to 1
    waves = np.sin(2 * np.pi * np.stack([11 * x + 5 * y, 7 * x - 13 * y, 17 * x * y], axis=2))
    return Image.fromarray((255 * (0.7 * gradients + 0.15 * (1 + waves))).round().astype(np.uint8))


def golden_pixels(image: bytes, preprocessing: Preprocessing) -> Pixels:
    """The stored PNG as the network's (S, S, C) uint8 pixels.

    Raises ValueError if it cannot be decoded or has more than MAX_PIXELS.
    """
    try:
        return read_pixels(image, preprocessing, MAX_PIXELS).copy()
    except TooManyPixels as error:
        raise ValueError(f"golden has an image that is too large, but must have at most {MAX_PIXELS} pixels") from error
    except ImageFault as error:
        raise ValueError("golden has an image that cannot be decoded, but must have a whole PNG file") from error


def largest_probability_change(golden: GoldenSample, logits: Tensor, temperature: float = 1.0) -> float:
    """The largest difference of a probability between (K,) `logits` and the recorded ones.

    Infinite if any of the logits is not a number.
    """
    if not bool(logits.isfinite().all()):
        return float("inf")
    both = torch.stack([torch.tensor(golden.logits), logits.float().cpu()])
    probabilities = softmax(both, temperature)
    return float((probabilities[0] - probabilities[1]).abs().max())
