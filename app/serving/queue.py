"""The bounded queue between requests and model replicas.

Owns admission, order and deadlines. A batch is whatever waits when a replica is free: the queue never waits for a
batch to fill, so there is no timer and nothing to tune.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from app.errors import DeadlineExceeded, Internal, NotReady, QueueFull, ServiceError
from app.metrics import Metrics
from app.serving.entry import Batch, Closed, Entry, Idle, NetworkInput, TimedPrediction
from app.serving.replica_set import ReplicaSet
from app.serving.service_rate import ServiceRate
from models.predictions import Prediction

LATE = "The request's time was up before its image reached the model."
NO_REPLICA = "No replica of the model is able to answer."
MAX_FAILURES = 3  # of replicas with one image, after which the image is no longer requeued: it may be the cause
TIMER_SECONDS = 0.001  # the resolution of uvloop's timers, which may fire half of it early


class Queue:
    """Holds up to `capacity` images that are being decoded or wait for a replica. All replicas take from it.

    Made on the event loop, on which `reserve`, `check_capacity` and `fail_admitted` are called. Any thread may call
    `submit` and `fail`. The replicas' threads and the watchdog call the others.
    """

    def __init__(self, capacity: int, replicas: ReplicaSet, rate: ServiceRate, metrics: Metrics) -> None:
        self.capacity = capacity
        self._replicas = replicas
        self._rate = rate
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._waiting: deque[Entry] = deque()
        self._admitted: set[Entry] = set()  # of requests that are not over; used on the event loop alone
        self._reserved = 0
        self._closed = False

    @property
    def depth(self) -> int:
        """Images that are admitted and that no replica has taken yet."""
        return self._reserved

    @contextmanager
    def reserve(self, images: int, deadline: float) -> Iterator[list[Entry]]:
        """Admits all images of a request or none. Raises QueueFull and NotReady.

        `deadline` is in `time.monotonic` seconds. At the end of the block the entries without an answer are cancelled
        and leave the queue.
        """
        with self._changed:
            self.check_capacity(images)
            self._reserved += images
        entries = [Entry(deadline, self._loop.create_future()) for _ in range(images)]
        self._admitted.update(entries)
        try:
            yield entries
        finally:
            self._admitted.difference_update(entries)
            for entry in entries:
                if entry.future.cancel():  # False where the entry has an answer
                    self._drop(entry)

    def check_capacity(self, images: int = 1) -> None:
        """Raises QueueFull or NotReady where `reserve` would."""
        depth = self._reserved
        if not self._replicas.healthy:
            raise NotReady(NO_REPLICA)
        if depth + images > self.capacity:
            raise QueueFull(
                f"The queue holds {self.capacity} images and has no room for {images} more.",
                retry_after=self._rate.retry_after(depth),
            )

    def close(self) -> None:
        """Makes `next_batch` return Closed once the queue is empty."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def submit(self, entry: Entry, pixels: NetworkInput) -> None:
        """Queues the pixels of an image, unless its request no longer waits for it."""
        with self._changed:
            if not entry.reserved:
                return
            if self._replicas.alive:
                entry.pixels, entry.queued_at = pixels, time.monotonic()
                self._waiting.append(entry)
                self._changed.notify()
                return
        self.fail(entry, NotReady(NO_REPLICA))

    def fail(self, entry: Entry, error: ServiceError) -> None:
        """Answers an image with an error before it reaches a replica."""
        self._release(entry)
        self._deliver([entry], [error])

    def refuse(self, entries: Iterable[Entry]) -> None:
        """Answers images with NotReady: no replica can compute them."""
        for entry in entries:
            self.fail(entry, NotReady(NO_REPLICA))

    def fail_admitted(self, error: ServiceError) -> None:
        """Answers every image that has no answer yet, wherever it is."""
        unanswered = [entry.future for entry in self._admitted]
        _set_results(unanswered, [error] * len(unanswered))

    def fail_waiting(self) -> None:
        """Answers all waiting images with NotReady: the last replica is lost."""
        with self._changed:
            self.refuse(self._waiting)
            self._waiting.clear()

    def next_batch(self, max_batch_size: int, idle_seconds: float) -> Batch | Idle | Closed:
        """Waits for images, for at most `idle_seconds`, and returns up to `max_batch_size` of them.

        An image whose deadline has passed is answered with DeadlineExceeded and is not returned.
        """
        with self._changed:
            while True:
                if not self._changed.wait_for(lambda: self._waiting or self._closed, idle_seconds):
                    return Idle()
                if entries := self._take_waiting(max_batch_size):
                    return Batch(entries)
                if self._closed:
                    return Closed()

    def requeue(self, entries: Iterable[Entry]) -> None:
        """Puts images that a replica could not answer in front of all others.

        An image that comes back for the MAX_FAILURES-th time is answered with Internal.
        """
        with self._changed:
            unanswered = [entry for entry in entries if not entry.future.done()]
            for entry in reversed(unanswered):
                entry.failures += 1
                if entry.failures == MAX_FAILURES:
                    self._deliver([entry], [Internal()])
                else:
                    entry.reserved = True
                    self._reserved += 1
                    self._waiting.appendleft(entry)
            self._changed.notify_all()

    def complete(self, entries: Sequence[Entry], outcomes: Sequence[Prediction | ServiceError], seconds: float) -> None:
        """Answers the images of a batch, which took `seconds` in the model; `outcomes` is in the order of `entries`."""
        started = time.monotonic() - seconds
        with self._changed:
            self._rate.observe(len(entries), seconds, max(1, self._replicas.healthy))
        self._metrics.batch_size.observe(len(entries))
        self._metrics.model_seconds.observe(seconds)
        for entry in entries:
            self._metrics.queue_seconds.observe(started - entry.queued_at)
        answers = [
            outcome
            if isinstance(outcome, ServiceError)
            else TimedPrediction(
                outcome, entry.queued_at - entry.admitted_at, started - entry.queued_at, seconds, len(entries)
            )
            for entry, outcome in zip(entries, outcomes, strict=True)
        ]
        self._deliver(entries, answers)

    def _take_waiting(self, limit: int) -> list[Entry]:
        """Takes up to `limit` waiting images, and answers those that are late."""
        entries: list[Entry] = []
        try:
            while self._waiting and len(entries) < limit:
                entry = self._waiting.popleft()
                self._release(entry)
                if entry.deadline > time.monotonic():
                    entries.append(entry)
                else:  # the event loop is busy and has not cancelled the entry yet
                    self._metrics.dropped.labels("deadline").inc()
                    self._deliver([entry], [DeadlineExceeded(LATE)])
        except BaseException:
            self.requeue(entries)
            raise
        return entries

    def _drop(self, entry: Entry) -> None:
        """Removes a cancelled entry at once, so that abandoned requests do not block new ones."""
        with self._changed:
            if not entry.reserved:  # a replica has taken it
                return
            self._release(entry)
            if entry.pixels is not None:
                self._waiting.remove(entry)
        is_late = time.monotonic() > entry.deadline - TIMER_SECONDS
        self._metrics.dropped.labels("deadline" if is_late else "disconnected").inc()

    def _release(self, entry: Entry) -> None:
        with self._changed:
            self._reserved -= entry.reserved
            entry.reserved = False

    def _deliver(self, entries: Sequence[Entry], answers: Sequence[TimedPrediction | ServiceError]) -> None:
        self._loop.call_soon_threadsafe(_set_results, [entry.future for entry in entries], answers)


def _set_results(
    futures: Iterable["asyncio.Future[TimedPrediction | ServiceError]"],
    answers: Iterable[TimedPrediction | ServiceError],
) -> None:
    """Runs on the event loop. Passes over futures that were cancelled because their client has gone."""
    for future, answer in zip(futures, answers, strict=True):
        if not future.done():
            future.set_result(answer)
