"""The thread of one model replica: it takes batches from the queue and answers them.

Owns three reactions to failure: it finds the image that makes a batch fail, it makes batches smaller when memory runs
short, and it stops using a replica that fails its golden check.
"""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from app.errors import BadRequest, Internal, ServiceError
from app.serving.entry import Batch, Closed, Entry, NetworkInput
from app.serving.queue import Queue
from app.serving.replica_set import ReplicaSet
from models.predictions import Logits, Prediction

log = logging.getLogger("vggserve.worker")

OVERFLOW = (
    "The network has no finite logits for this tensor. Its values are far larger than those of normalised pixels."
)
MAX_GOLDEN_CHECKS = 3  # failures in a row after which a replica is given up
GROWTH = 1 / 16  # images that the maximum batch size grows by with each full batch, after it was halved


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


class Worker:
    """Answers batches from `start` until the queue is closed and empty, or the replica is given up.

    A replica that was idle for `golden_check_seconds` gets a golden check. While it fails, the check is repeated after
    `retry_seconds`.
    """

    def __init__(
        self,
        replica: Replica,
        queue: Queue,
        replicas: ReplicaSet,
        *,
        golden_check_seconds: float,
        retry_seconds: float,
    ) -> None:
        self._replica = replica
        self._queue = queue
        self._replicas = replicas
        self._golden_check_seconds = golden_check_seconds
        self._retry_seconds = retry_seconds
        self._max_batch_size = float(replica.max_batch_size)
        self._thread = threading.Thread(target=self._run, name=f"model-{replica.name}", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def join(self) -> None:
        """Waits until the thread has ended."""
        self._thread.join()

    def _run(self) -> None:
        while True:
            outcome = self._queue.next_batch(int(self._max_batch_size), self._golden_check_seconds)
            if isinstance(outcome, Closed):
                return
            is_answered = isinstance(outcome, Batch) and self._answer(outcome.entries)
            del outcome  # the images' memory is free while the next batch is awaited
            if not is_answered and not self._recover():
                return

    def _answer(self, entries: Sequence[Entry]) -> bool:
        """Answers a batch. Returns False, with the images back in the queue, if the replica itself is at fault."""
        started = time.monotonic()
        outcomes = self._compute([entry.pixels for entry in entries if entry.pixels is not None])
        if all(isinstance(outcome, ServiceError) for outcome in outcomes) and not self._passes_golden_check():
            self._queue.requeue(entries)
            return False
        self._queue.complete(entries, outcomes, time.monotonic() - started)
        if len(entries) == int(self._max_batch_size):
            self._max_batch_size = min(self._max_batch_size + GROWTH, self._replica.max_batch_size)
        return True

    def _compute(self, pixels: Sequence[NetworkInput]) -> list[Prediction | ServiceError]:
        """Returns each image's prediction or error. A batch that fails is halved until the image at fault is alone."""
        if len(pixels) > self._max_batch_size:  # memory ran short in the other half
            return self._compute_halves(pixels)
        try:
            logits = self._replica.compute_logits(pixels)
            predictions = self._replica.make_predictions(logits)
        except Exception as error:
            if isinstance(error, torch.OutOfMemoryError):
                self._max_batch_size = max(1.0, len(pixels) / 2)
                name, size = self._replica.name, self._max_batch_size
                log.warning("out of memory on %s: the maximum batch size is now %d", name, size)
            if len(pixels) > 1:
                return self._compute_halves(pixels)
            log.exception("an image failed on %s", self._replica.name)
            return [Internal()]
        is_finite: list[bool] = np.logical_and.reduce(np.isfinite(logits), axis=1).tolist()
        if not all(is_finite):
            count, name = is_finite.count(False), self._replica.name
            log.error("%d of %d images got no finite logits on %s", count, len(is_finite), name)
        return [
            prediction if finite else _explain_no_answer(image)
            for prediction, finite, image in zip(predictions, is_finite, pixels, strict=True)
        ]

    def _compute_halves(self, pixels: Sequence[NetworkInput]) -> list[Prediction | ServiceError]:
        half = len(pixels) // 2
        return self._compute(pixels[:half]) + self._compute(pixels[half:])

    def _recover(self) -> bool:
        """Repeats the golden check until the replica passes it. Returns False once the replica is given up.

        A replica takes no batch while it fails.
        """
        for failures in range(MAX_GOLDEN_CHECKS):
            if self._passes_golden_check():
                if failures:
                    log.info("replica %s passes its golden check again", self._replica.name)
                    self._replicas.mark_healthy()
                return True
            if not failures:
                log.error("replica %s fails its golden check and is taken out", self._replica.name)
                self._replicas.mark_unhealthy()
            time.sleep(self._retry_seconds)
        log.critical("replica %s is given up after %d failed golden checks", self._replica.name, MAX_GOLDEN_CHECKS)
        self._replicas.mark_lost()
        if not self._replicas.alive:
            self._queue.fail_waiting()
        return False

    def _passes_golden_check(self) -> bool:
        try:
            return self._replica.passes_golden_check()
        except Exception:
            log.exception("the golden check failed on %s", self._replica.name)
            return False


def _explain_no_answer(image: NetworkInput) -> ServiceError:
    """Pixels always have finite logits on a healthy replica. A caller's normalised pixels can have any size."""
    return BadRequest(OVERFLOW) if image.dtype == np.float32 else Internal()
