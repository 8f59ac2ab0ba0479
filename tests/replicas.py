"""Replicas that are written out for the tests of the queue, and stop where a test tells them to."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np

from app.batcher import Answer, Batcher, Logits
from app.metrics import Metrics
from app.worker import Worker
from models.preprocess import Pixels

NEVER = float("inf")


class FakeReplica:
    """Answers every image with its first pixel's value, once `gate` is open."""

    def __init__(self, ceiling: int = 4, *, is_open: bool = True) -> None:
        self.name = "fake"
        self.ceiling = ceiling
        self.gate = threading.Event()
        self._entered = threading.Semaphore(0)
        self.batches: list[list[int]] = []
        self.fault: Callable[[list[int]], Exception | None] = lambda _: None
        self.canaries: deque[bool] = deque()
        if is_open:
            self.gate.set()

    def predict(self, batch: Pixels) -> Logits:
        values = [int(image[0, 0, 0]) for image in batch]
        self.batches.append(values)
        self._entered.release()
        self.gate.wait()
        if (error := self.fault(values)) is not None:
            raise error
        return np.array([[value, 0] for value in values], dtype=np.float32)

    def canary(self) -> bool:
        """The next of `canaries`; with none left, the replica is well."""
        return self.canaries.popleft() if self.canaries else True

    async def entered(self) -> None:
        """Waits until one more batch has come in."""
        await asyncio.to_thread(self._entered.acquire)


def image(value: int) -> Pixels:
    return np.full((1, 1, 3), value, dtype=np.uint8)


def value_of(answer: Answer) -> int:
    return int(answer.logits[0])


def submit(batcher: Batcher, *values: int, deadline: float = NEVER) -> "list[asyncio.Future[Answer]]":
    with batcher.reserve(len(values)) as places:
        return [places.submit(image(value), deadline) for value in values]


class QuickWorker(Worker):
    """Waits for nothing between canaries."""

    retry_seconds = 0.0


class CuriousWorker(QuickWorker):
    """Asks the canary whenever there is nothing to do."""

    canary_seconds = 0.0


@asynccontextmanager
async def running(
    *replicas: FakeReplica,
    capacity: int = 16,
    worker: type[Worker] = QuickWorker,
    on_change: Callable[[], None] = lambda: None,
) -> AsyncIterator[Batcher]:
    """A batcher whose replicas work until the end of the block."""
    batcher = Batcher(len(replicas), capacity, Metrics(), on_change)
    workers = [worker(replica, batcher) for replica in replicas]
    try:
        yield batcher
    finally:
        for replica in replicas:
            replica.gate.set()
        batcher.close()
        for working in workers:
            await asyncio.to_thread(working.join)
