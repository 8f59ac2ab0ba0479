"""The bounded queue between requests and model replicas, and the threads that empty it.

Owns admission, batching, isolation of failures and dropping what nobody waits for. Work-conserving: a
batch is whatever waits when a replica is free, so there is no timer and nothing to tune. Knows nothing
of HTTP, image files or networks; a replica is whatever has `predict` and `ceiling`.
"""

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray

from app.errors import DeadlineExceeded, Internal, QueueFull, ServiceError
from app.metrics import Metrics
from models.preprocess import Pixels

Logits = NDArray[np.float32]
log = logging.getLogger("vggserve.batcher")

LATE = "The request's time was up before its image reached the model."
SMOOTHING = 0.2  # weight of the newest batch in the running mean of seconds per image


class Replica(Protocol):
    """One copy of the model on one device. `ceiling` is the largest batch it takes, in images."""

    name: str
    ceiling: int

    def predict(self, batch: Pixels) -> Logits:
        """(N, S, S, C) uint8 -> (N, K) logits."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One image's (K,) logits, and the seconds that it waited and that its batch took."""

    logits: Logits
    queue_seconds: float
    model_seconds: float


@dataclass(slots=True, eq=False)
class Entry:
    """One image in the queue. `deadline` is in `time.monotonic` seconds."""

    pixels: Pixels
    deadline: float
    future: "asyncio.Future[Answer]"
    entered: float = field(default_factory=time.monotonic)


class Batcher:
    """Admits up to `capacity` images at once that are being decoded or wait; all replicas pull from it.

    Made on the event loop, which also calls `reserve`, `depth` and `close`.
    """

    def __init__(self, replicas: Sequence[Replica], capacity: int, metrics: Metrics) -> None:
        self.capacity = capacity
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._waiting: deque[Entry] = deque()
        self._held = 0  # images admitted and not yet taken by a replica: decoding or waiting
        self._closed = False
        self._seconds_per_image = 0.0
        self._threads = [
            threading.Thread(target=self._work, args=(replica,), name=f"model-{replica.name}", daemon=True)
            for replica in replicas
        ]
        for thread in self._threads:
            thread.start()

    @property
    def depth(self) -> int:
        """Images admitted and not yet taken by a replica."""
        return self._held

    def reserve(self, images: int) -> "Places":
        """Places in the queue for all images of a request, or none. Raises QueueFull."""
        with self._changed:
            depth = self._held
            if depth + images <= self.capacity:
                self._held += images
                return Places(self, images)
        raise QueueFull(
            f"The queue holds {self.capacity} images and has no room for {images} more.",
            retry_after=max(1, math.ceil(depth * self._seconds_per_image)),
        )

    def release(self, images: int) -> None:
        """Gives back places that were reserved and not used."""
        with self._changed:
            self._held -= images

    def submit(self, pixels: Pixels, deadline: float) -> "asyncio.Future[Answer]":
        """Queues one image on a reserved place. Cancelling the future takes it out again."""
        entry = Entry(pixels, deadline, self._loop.create_future())
        entry.future.add_done_callback(lambda _: self._drop(entry) if entry.future.cancelled() else None)
        with self._changed:
            self._waiting.append(entry)
            self._changed.notify()
        return entry.future

    def close(self) -> list[threading.Thread]:
        """Tells the threads to end once the queue is empty, and returns them."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        return self._threads

    def _drop(self, entry: Entry) -> None:
        """Takes a cancelled entry out of the queue, so that the dead do not keep the living out."""
        with self._changed:
            if entry not in self._waiting:  # a replica has it already
                return
            self._waiting.remove(entry)
            self._held -= 1
        self._metrics.dropped.labels("deadline" if time.monotonic() >= entry.deadline else "disconnected").inc()

    def _work(self, replica: Replica) -> None:
        while batch := self._take(replica):
            started = time.monotonic()
            outcomes = self._predict(replica, [entry.pixels for entry in batch])
            self._settle(batch, outcomes, started, time.monotonic())

    def _take(self, replica: Replica) -> list[Entry]:
        """Waits for work that is still wanted; an empty list means the end."""
        batch: list[Entry] = []
        with self._changed:
            while not batch and not (self._closed and not self._waiting):
                self._changed.wait_for(lambda: self._waiting or self._closed)
                while self._waiting and len(batch) < replica.ceiling:
                    entry = self._waiting.popleft()
                    self._held -= 1
                    if entry.deadline > time.monotonic():
                        batch.append(entry)
                    else:
                        self._expire(entry)
        return batch

    def _expire(self, entry: Entry) -> None:
        """The deadline has passed and the event loop, being busy, has not cancelled the entry yet."""
        self._metrics.dropped.labels("deadline").inc()
        self._loop.call_soon_threadsafe(_deliver, [entry.future], [DeadlineExceeded(LATE)])

    def _predict(self, replica: Replica, pixels: list[Pixels]) -> list[Logits | ServiceError]:
        """Each image's logits or error; a batch that fails is halved until the image at fault is alone."""
        try:
            logits = replica.predict(np.stack(pixels))
        except Exception as error:
            if isinstance(error, torch.OutOfMemoryError):
                replica.ceiling = max(1, min(replica.ceiling, len(pixels) // 2))
                log.warning("out of memory on %s: the batch ceiling is now %d", replica.name, replica.ceiling)
            elif len(pixels) == 1:
                log.exception("an image failed on %s", replica.name)
            if len(pixels) == 1:
                return [Internal()]
            half = len(pixels) // 2
            return self._predict(replica, pixels[:half]) + self._predict(replica, pixels[half:])
        finite = [bool(np.isfinite(row).all()) for row in logits]
        if not all(finite):
            log.error(
                "%d of %d images have logits that are not finite on %s", finite.count(False), len(finite), replica.name
            )
        return [row if good else Internal() for row, good in zip(logits, finite, strict=True)]

    def _settle(self, batch: list[Entry], outcomes: list[Logits | ServiceError], started: float, ended: float) -> None:
        seconds = ended - started
        per_image = seconds / len(batch) / len(self._threads)
        self._seconds_per_image += (SMOOTHING if self._seconds_per_image else 1.0) * (
            per_image - self._seconds_per_image
        )
        self._metrics.batch_size.observe(len(batch))
        self._metrics.model_seconds.observe(seconds)
        for entry in batch:
            self._metrics.queue_seconds.observe(started - entry.entered)
        answers = [
            outcome if isinstance(outcome, ServiceError) else Answer(outcome, started - entry.entered, seconds)
            for entry, outcome in zip(batch, outcomes, strict=True)
        ]
        self._loop.call_soon_threadsafe(_deliver, [entry.future for entry in batch], answers)


class Places:
    """Reserved places; those not used by the end of the `with` block are given back."""

    def __init__(self, batcher: Batcher, images: int) -> None:
        self._batcher = batcher
        self._left = images

    def submit(self, pixels: Pixels, deadline: float) -> "asyncio.Future[Answer]":
        """Queues one image on one of the places."""
        self._left -= 1
        return self._batcher.submit(pixels, deadline)

    def give_back(self) -> None:
        """One image will not come."""
        self._left -= 1
        self._batcher.release(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._batcher.release(self._left)
        self._left = 0


def _deliver(futures: Iterable["asyncio.Future[Answer]"], answers: Iterable[Answer | ServiceError]) -> None:
    """Runs on the event loop. A future whose client has gone is done already and is passed over."""
    for future, answer in zip(futures, answers, strict=True):
        if future.done():
            continue
        if isinstance(answer, ServiceError):
            future.set_exception(answer)
        else:
            future.set_result(answer)
