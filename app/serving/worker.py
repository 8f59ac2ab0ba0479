"""The thread of one model replica: it empties the queue and knows how its replica is.

Owns isolating the image that fails a batch, living with too little memory, and taking out a replica
that answers wrongly. Knows nothing of requests; a replica is whatever has the five members below.
"""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from app.errors import Internal, ServiceError
from app.serving.queue import Batcher, Entry
from models.preprocess import Pixels
from models.probabilities import Logits, Prediction

log = logging.getLogger("vggserve.worker")

LAST_FAILURE = 3  # canaries in a row, after which a replica is given up
GROWTH = 1 / 16  # images that the ceiling grows back by with each full batch after it was halved


class Replica(Protocol):
    """One copy of the model on one device. `ceiling` is the largest batch it takes, in images."""

    name: str
    ceiling: int

    def predict(self, images: Sequence[Pixels]) -> Logits:
        """N images of (S, S, C) uint8 -> (N, K) logits."""

    def scores(self, logits: Logits) -> list[Prediction]:
        """(N, K) logits -> what they say of each image."""

    def canary(self) -> bool:
        """Whether the replica still gives the trained answer for the golden sample."""


class Worker:
    """Runs from its making until the batcher is closed and empty, or its replica is given up."""

    canary_seconds = 10.0  # of idleness, after which the replica is asked for the golden sample
    retry_seconds = 1.0  # between canaries while they fail

    def __init__(self, replica: Replica, batcher: Batcher) -> None:
        self._replica = replica
        self._batcher = batcher
        self._limit = float(replica.ceiling)
        self._thread = threading.Thread(target=self._work, name=f"model-{replica.name}", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Waits for the thread's end."""
        self._thread.join()

    def _work(self) -> None:
        while (batch := self._batcher.take(int(self._limit), self.canary_seconds)) != []:
            answered = batch is not None and self._answer(batch)
            if not answered and not self._is_well():
                return

    def _answer(self, batch: Sequence[Entry]) -> bool:
        """Answers the batch. False, with the images back in the queue, if the replica itself is at fault."""
        started = time.monotonic()
        outcomes = self._predict([entry.pixels for entry in batch if entry.pixels is not None])
        if all(isinstance(outcome, ServiceError) for outcome in outcomes) and not self._canary():
            self._batcher.take_back(batch)
            return False
        self._batcher.settle(batch, outcomes, time.monotonic() - started)
        if len(batch) == int(self._limit):
            self._limit = min(self._limit + GROWTH, self._replica.ceiling)
        return True

    def _predict(self, pixels: Sequence[Pixels]) -> list[Prediction | ServiceError]:
        """Each image's score or error; a batch that fails is halved until the image at fault is alone."""
        if len(pixels) > self._limit:  # memory ran short in the half before
            return self._predict_halves(pixels)
        try:
            logits = self._replica.predict(pixels)
            scores = self._replica.scores(logits)
        except Exception as error:
            if isinstance(error, torch.OutOfMemoryError):
                self._limit = max(1.0, len(pixels) / 2)
                log.warning("out of memory on %s: the batch ceiling is now %d", self._replica.name, self._limit)
            if len(pixels) > 1:
                return self._predict_halves(pixels)
            log.exception("an image failed on %s", self._replica.name)
            return [Internal()]
        finite: list[bool] = np.logical_and.reduce(np.isfinite(logits), axis=1).tolist()
        if not all(finite):
            log.error(
                "%d of %d images got no finite logits on %s", finite.count(False), len(finite), self._replica.name
            )
        return [score if good else Internal() for score, good in zip(scores, finite, strict=True)]

    def _predict_halves(self, pixels: Sequence[Pixels]) -> list[Prediction | ServiceError]:
        half = len(pixels) // 2
        return self._predict(pixels[:half]) + self._predict(pixels[half:])

    def _is_well(self) -> bool:
        """Asks the canary; while it fails the replica takes no work, and after the last failure never again."""
        for failure in range(LAST_FAILURE):
            if self._canary():
                if failure:
                    log.info("replica %s is well again", self._replica.name)
                    self._batcher.change(healthy=1)
                return True
            if not failure:
                log.error("replica %s fails its canary and is taken out", self._replica.name)
                self._batcher.change(healthy=-1)
            time.sleep(self.retry_seconds)
        log.critical("replica %s is given up after %d failed canaries", self._replica.name, LAST_FAILURE)
        self._batcher.change(alive=-1)
        return False

    def _canary(self) -> bool:
        try:
            return self._replica.canary()
        except Exception:
            log.exception("the canary failed on %s", self._replica.name)
            return False
