"""From the images of a batch to an outcome for each of them, on one replica.

Owns two reactions to failure: it finds the image that makes a batch fail, and it makes batches smaller when memory runs
short.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch

from app.errors import BadRequest, Internal, ServiceError
from app.serving.entry import NetworkInput
from models.predictions import Logits, Prediction

log = logging.getLogger("vggserve.computer")

GROWTH = 1 / 16  # images that the maximum batch size grows by with each full batch, after it was halved
OVERFLOW = (
    "The network has no finite logits for this tensor. Its values are far larger than those of normalised pixels."
)
CPU_OUT_OF_MEMORY = "can't allocate memory"  # in torch's message; on a CPU the error's class is RuntimeError


class Replica(Protocol):
    """One copy of the model on one device. `max_batch_size` is in images."""

    name: str
    max_batch_size: int

    def compute_logits(self, images: Sequence[NetworkInput]) -> Logits:
        """N images, as pixels or normalised, -> (N, K) float32 logits."""

    def make_predictions(self, logits: Logits) -> list[Prediction]:
        """(N, K) logits -> one prediction for each image."""

    def passes_golden_check(self) -> bool:
        """Whether the replica still gives the trained answer for the golden sample."""


class BatchComputer:
    """Computes batches of up to `max_batch_size` images. Calls `on_call` before each call of the model."""

    def __init__(self, replica: Replica, on_call: Callable[[], None]) -> None:
        self._replica = replica
        self._on_call = on_call
        self._max_batch_size = float(replica.max_batch_size)

    @property
    def max_batch_size(self) -> int:
        """The most images that the next batch may have."""
        return int(self._max_batch_size)

    def compute(self, pixels: Sequence[NetworkInput]) -> list[Prediction | ServiceError]:
        """Returns each image's prediction or error, in order. Lets the maximum grow back after a full batch."""
        outcomes = self._compute(pixels)
        if len(pixels) == self.max_batch_size:
            self._max_batch_size = min(self._max_batch_size + GROWTH, self._replica.max_batch_size)
        return outcomes

    def _compute(self, pixels: Sequence[NetworkInput]) -> list[Prediction | ServiceError]:
        """A batch that fails is halved until the image at fault is alone.

        Catches BaseException too: extensions that are written in Rust raise one for a fault of theirs.
        """
        if len(pixels) > self._max_batch_size:  # memory ran short in the other half
            return self._compute_halves(pixels)
        try:
            self._on_call()
            logits = self._replica.compute_logits(pixels)
            return self._check_finite(pixels, logits, self._replica.make_predictions(logits))
        except BaseException as error:
            if _is_out_of_memory(error):
                self._max_batch_size = max(1.0, len(pixels) / 2)
                name, size = self._replica.name, self._max_batch_size
                log.warning("out of memory on %s: the maximum batch size is now %d", name, size)
            if len(pixels) == 1:
                log.exception("an image failed on %s", self._replica.name)
                return [Internal()]
        return self._compute_halves(pixels)  # here, where the error no longer keeps the failed batch in memory

    def _compute_halves(self, pixels: Sequence[NetworkInput]) -> list[Prediction | ServiceError]:
        half = len(pixels) // 2
        return self._compute(pixels[:half]) + self._compute(pixels[half:])

    def _check_finite(
        self, pixels: Sequence[NetworkInput], logits: Logits, predictions: list[Prediction]
    ) -> list[Prediction | ServiceError]:
        """Puts an error in the place of each image whose logits are not finite."""
        is_finite: list[bool] = np.logical_and.reduce(np.isfinite(logits), axis=1).tolist()
        if not all(is_finite):
            count, name = is_finite.count(False), self._replica.name
            log.error("%d of %d images got no finite logits on %s", count, len(is_finite), name)
        return [
            prediction if finite else _explain_no_answer(image)
            for prediction, finite, image in zip(predictions, is_finite, pixels, strict=True)
        ]


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or CPU_OUT_OF_MEMORY in str(error)


def _explain_no_answer(image: NetworkInput) -> ServiceError:
    """Pixels always have finite logits on a healthy replica. A caller's normalised pixels can have any size."""
    return BadRequest(OVERFLOW) if image.dtype == np.float32 else Internal()
