"""The bounded queue between requests and model replicas.

Owns admission, order, deadlines and dropping what nobody waits for. Work-conserving: a batch is
whatever waits when a replica is free, so there is no timer and nothing to tune. Knows nothing of HTTP,
image files or networks; the replicas' threads are in `worker`.
"""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from app.errors import DeadlineExceeded, NotReady, QueueFull, ServiceError
from app.metrics import Metrics
from models.preprocess import Pixels

Logits = NDArray[np.float32]

LATE = "The request's time was up before its image reached the model."
NO_REPLICA = "No replica of the model is able to answer."
SMOOTHING = 0.2  # weight of the newest batch in the running mean of seconds per image


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

    Made on the event loop. `on_change` is called there whenever `healthy` or `alive` has changed.
    """

    def __init__(self, replicas: int, capacity: int, metrics: Metrics, on_change: Callable[[], None]) -> None:
        self.capacity = capacity
        self.alive = self.healthy = replicas
        self._metrics = metrics
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._waiting: deque[Entry] = deque()
        self._held = 0  # images admitted and not yet taken by a replica: decoding or waiting
        self._closed = False
        self._seconds_per_image = 0.0

    @property
    def depth(self) -> int:
        """Images admitted and not yet taken by a replica."""
        return self._held

    def reserve(self, images: int) -> "Places":
        """Places in the queue for all images of a request, or none. Raises QueueFull and NotReady."""
        with self._changed:
            depth = self._held
            if not self.healthy:
                raise NotReady(NO_REPLICA)
            if depth + images <= self.capacity:
                self._held += images
                return Places(self, images)
        raise QueueFull(
            f"The queue holds {self.capacity} images and has no room for {images} more.",
            retry_after=max(1, math.ceil(depth * self._seconds_per_image)),
        )

    def check_room(self) -> None:
        """Raises what `reserve` would for one image."""
        with self.reserve(1):
            pass

    def release(self, images: int) -> None:
        """Gives back places that were reserved and not used."""
        with self._changed:
            self._held -= images

    def submit(self, pixels: Pixels, deadline: float) -> "asyncio.Future[Answer]":
        """Queues one image on a reserved place. Cancelling the future takes it out again."""
        entry = Entry(pixels, deadline, self._loop.create_future())
        entry.future.add_done_callback(lambda _: self._drop(entry) if entry.future.cancelled() else None)
        with self._changed:
            if self.alive:
                self._waiting.append(entry)
                self._changed.notify()
                return entry.future
            self._held -= 1
        entry.future.set_exception(NotReady(NO_REPLICA))
        return entry.future

    def close(self) -> None:
        """Lets the replicas' threads end once the queue is empty."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # What follows is called by the replicas' threads.

    def take(self, limit: int, idle_seconds: float) -> list[Entry] | None:
        """Up to `limit` images that are still wanted, as soon as there is one; the end is an empty list.

        None says that nothing came for `idle_seconds`.
        """
        with self._changed:
            while True:
                if not self._changed.wait_for(lambda: self._waiting or self._closed, idle_seconds):
                    return None
                batch: list[Entry] = []
                while self._waiting and len(batch) < limit:
                    entry = self._waiting.popleft()
                    self._held -= 1
                    if entry.deadline > time.monotonic():
                        batch.append(entry)
                    else:  # the event loop, being busy, has not cancelled it yet
                        self._metrics.dropped.labels("deadline").inc()
                        self._later([entry], [DeadlineExceeded(LATE)])
                if batch or self._closed:
                    return batch

    def take_back(self, entries: Iterable[Entry]) -> None:
        """Puts images that a failing replica could not answer in front of all others."""
        with self._changed:
            wanted = [entry for entry in entries if not entry.future.done()]
            self._waiting.extendleft(reversed(wanted))
            self._held += len(wanted)
            self._changed.notify_all()

    def settle(self, batch: Sequence[Entry], outcomes: Sequence[Logits | ServiceError], seconds: float) -> None:
        """Answers a batch that took `seconds` in the model."""
        started = time.monotonic() - seconds
        waited = [started - entry.entered for entry in batch]
        with self._changed:
            per_image = seconds / len(batch) / self.alive
            weight = SMOOTHING if self._seconds_per_image else 1.0
            self._seconds_per_image += weight * (per_image - self._seconds_per_image)
        self._metrics.batch_size.observe(len(batch))
        self._metrics.model_seconds.observe(seconds)
        for queue_seconds in waited:
            self._metrics.queue_seconds.observe(queue_seconds)
        answers = [
            outcome if isinstance(outcome, ServiceError) else Answer(outcome, queue_seconds, seconds)
            for outcome, queue_seconds in zip(outcomes, waited, strict=True)
        ]
        self._later(batch, answers)

    def change(self, *, healthy: int = 0, alive: int = 0) -> None:
        """Adds to the counts of replicas that answer rightly, and of those that may yet do so again."""
        with self._changed:
            self.healthy += healthy
            self.alive += alive
            if not self.alive:
                self._held -= len(self._waiting)
                self._later(list(self._waiting), [NotReady(NO_REPLICA) for _ in self._waiting])
                self._waiting.clear()
        self._loop.call_soon_threadsafe(self._on_change)

    def _drop(self, entry: Entry) -> None:
        """Takes a cancelled entry out of the queue, so that the dead do not keep the living out."""
        with self._changed:
            if entry not in self._waiting:  # a replica has it already
                return
            self._waiting.remove(entry)
            self._held -= 1
        self._metrics.dropped.labels("deadline" if time.monotonic() >= entry.deadline else "disconnected").inc()

    def _later(self, entries: Sequence[Entry], answers: Sequence[Answer | ServiceError]) -> None:
        self._loop.call_soon_threadsafe(_deliver, [entry.future for entry in entries], answers)


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
