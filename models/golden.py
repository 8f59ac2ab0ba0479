"""The golden sample: one image, and the logits that the trained network gave for it.

Owns making the sample and comparing with it. Before a server is ready, it compares its own logits for the image, on its
device and in its precision, with those of the sample.
"""

import io
from dataclasses import dataclass
from typing import ClassVar

import torch
from PIL import Image
from pydantic import ConfigDict
from torch import Tensor, nn

from models.image_files import read_pixels
from models.normalise import normalise
from models.preprocess import Pixels, Preprocessing
from models.probabilities import softmax


@dataclass(frozen=True, slots=True)
class GoldenSample:
    """`image` is a PNG file's bytes, `logits` the K float32 logits for it."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(val_json_bytes="base64")  # as checkpoints store it
    image: bytes
    logits: tuple[float, ...]


def record_golden_sample(model: nn.Module, preprocessing: Preprocessing, image: Image.Image) -> GoldenSample:
    """Asks `model`, in evaluation mode and float32 on whatever device it is, for `image`."""
    png = io.BytesIO()
    image.save(png, "PNG")
    device = next(model.parameters()).device
    batch = torch.from_numpy(golden_pixels(png.getvalue(), preprocessing)[None]).to(device)
    was_training = model.training
    with torch.inference_mode():
        logits = model.eval()(normalise(batch, preprocessing))[0]
    model.train(was_training)
    return GoldenSample(png.getvalue(), tuple(logits.float().tolist()))


def golden_pixels(image: bytes, preprocessing: Preprocessing) -> Pixels:
    """The stored PNG as the network's (S, S, C) uint8 pixels."""
    return read_pixels(image, preprocessing).copy()


def largest_probability_change(golden: GoldenSample, logits: Tensor, temperature: float = 1.0) -> float:
    """The largest difference of a probability between (K,) `logits` and the recorded ones.

    Infinite if any of the logits is not a number.
    """
    if not bool(logits.isfinite().all()):
        return float("inf")
    both = torch.stack([torch.tensor(golden.logits), logits.float().cpu()])
    probabilities = softmax(both, temperature)
    return float((probabilities[0] - probabilities[1]).abs().max())
