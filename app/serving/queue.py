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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from app.errors import DeadlineExceeded, NotReady, QueueFull, ServiceError
from app.metrics import Metrics
from models.preprocess import Pixels
from models.probabilities import Prediction

LATE = "The request's time was up before its image reached the model."
NO_REPLICA = "No replica of the model is able to answer."
TIMER_SECONDS = 0.001  # uvloop's timers count in these, and may be early by half of one
SMOOTHING = 0.2  # weight of the newest batch in the running mean of seconds per image


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says of one image, and its seconds until it was decoded, in the queue, and of its batch."""

    score: Prediction
    decode_seconds: float
    queue_seconds: float
    model_seconds: float


@dataclass(slots=True, eq=False)
class Entry:
    """One image from its admission to its answer. Times are in `time.monotonic` seconds.

    `future` ends with an answer or an error, or is cancelled when nobody waits for it any more.
    """

    deadline: float
    future: "asyncio.Future[Answer | ServiceError]"
    admitted: float = field(default_factory=time.monotonic)
    queued: float = 0.0
    pixels: Pixels | None = None
    has_place: bool = True


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
        self._held = 0  # places taken, by images that are being decoded or wait
        self._closed = False
        self._seconds_per_image = 0.0

    @property
    def depth(self) -> int:
        """Images admitted and not yet taken by a replica."""
        return self._held

    @contextmanager
    def admitted(self, images: int, deadline: float) -> Iterator[list[Entry]]:
        """A place in the queue for each image of a request, or none. Raises QueueFull and NotReady.

        Entries that have no answer at the end of the block are given up.
        """
        with self._changed:
            self.check_room(images)
            self._held += images
        entries = [Entry(deadline, self._loop.create_future()) for _ in range(images)]
        try:
            yield entries
        finally:
            for entry in entries:
                if entry.future.cancel():  # it had not ended
                    self._drop(entry)

    def check_room(self, images: int = 1) -> None:
        """Raises what `admitted` would."""
        depth = self._held
        if not self.healthy:
            raise NotReady(NO_REPLICA)
        if depth + images > self.capacity:
            raise QueueFull(
                f"The queue holds {self.capacity} images and has no room for {images} more.",
                retry_after=max(1, math.ceil(depth * self._seconds_per_image)),
            )

    def close(self) -> None:
        """Lets the replicas' threads end once the queue is empty."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # The next two are called by any thread, the others by the replicas' threads.

    def submit(self, entry: Entry, pixels: Pixels) -> None:
        """Queues an image that has been decoded, unless nobody waits for it any more."""
        with self._changed:
            if not entry.has_place:
                return
            if self.alive:
                entry.pixels, entry.queued = pixels, time.monotonic()
                self._waiting.append(entry)
                self._changed.notify()
                return
        self.fail(entry, NotReady(NO_REPLICA))

    def fail(self, entry: Entry, error: ServiceError) -> None:
        """Answers an image that will not be queued."""
        self._free(entry)
        self._later([entry], [error])

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
                    self._free(entry)
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
            for entry in wanted:
                entry.has_place = True
            self._waiting.extendleft(reversed(wanted))
            self._held += len(wanted)
            self._changed.notify_all()

    def settle(self, batch: Sequence[Entry], outcomes: Sequence[Prediction | ServiceError], seconds: float) -> None:
        """Answers a batch that took `seconds` in the model."""
        started = time.monotonic() - seconds
        with self._changed:
            per_image = seconds / len(batch) / self.alive
            weight = SMOOTHING if self._seconds_per_image else 1.0
            self._seconds_per_image += weight * (per_image - self._seconds_per_image)
        self._metrics.batch_size.observe(len(batch))
        self._metrics.model_seconds.observe(seconds)
        for entry in batch:
            self._metrics.queue_seconds.observe(started - entry.queued)
        answers = [
            outcome
            if isinstance(outcome, ServiceError)
            else Answer(outcome, entry.queued - entry.admitted, started - entry.queued, seconds)
            for entry, outcome in zip(batch, outcomes, strict=True)
        ]
        self._later(batch, answers)

    def change(self, *, healthy: int = 0, alive: int = 0) -> None:
        """Adds to the counts of replicas that answer rightly, and of those that may yet do so again."""
        with self._changed:
            self.healthy += healthy
            self.alive += alive
            if not self.alive:
                for entry in self._waiting:
                    self.fail(entry, NotReady(NO_REPLICA))
                self._waiting.clear()
        self._loop.call_soon_threadsafe(self._on_change)

    def _drop(self, entry: Entry) -> None:
        """Gives back the place of an entry that nobody waits for, so that the dead do not keep the living out."""
        with self._changed:
            if not entry.has_place:  # a replica has it already
                return
            self._free(entry)
            if entry.pixels is not None:
                self._waiting.remove(entry)
        late = time.monotonic() > entry.deadline - TIMER_SECONDS
        self._metrics.dropped.labels("deadline" if late else "disconnected").inc()

    def _free(self, entry: Entry) -> None:
        with self._changed:
            self._held -= entry.has_place
            entry.has_place = False

    def _later(self, entries: Sequence[Entry], answers: Sequence[Answer | ServiceError]) -> None:
        self._loop.call_soon_threadsafe(_deliver, [entry.future for entry in entries], answers)


def _deliver(
    futures: Iterable["asyncio.Future[Answer | ServiceError]"], outcomes: Iterable[Answer | ServiceError]
) -> None:
    """Runs on the event loop. A future whose client has gone is cancelled already and is passed over."""
    for future, outcome in zip(futures, outcomes, strict=True):
        if not future.done():
            future.set_result(outcome)
