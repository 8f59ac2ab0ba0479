"""What a network's logits say of an image: probabilities and typicality."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models.probabilities import Calibration, softmax
from models.typicality import typicality

Logits = NDArray[np.float32]
Probabilities = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Prediction:
    """One image's (K,) logits, (K,) probabilities and typicality, which is None without a calibration."""

    logits: Logits
    probabilities: Probabilities
    typicality: float | None


def make_predictions(logits: Tensor, temperature: float, calibration: Calibration | None) -> list[Prediction]:
    """The predictions of N images from their (N, K) logits on the CPU.

    It is called once for a batch, because such small operations cost by the call and not by the image.
    """
    typicalities = typicality(logits, calibration) if calibration else [None] * len(logits)
    probabilities = softmax(logits, temperature)
    return list(map(Prediction, logits.numpy(), probabilities.numpy(), typicalities))
