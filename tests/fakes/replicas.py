"""Replicas that are written out for the tests of the queue, and stop where a test tells them to."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import numpy as np

from app.errors import ServiceError
from app.metrics import Metrics
from app.serving.queue import Answer, Batcher
from app.serving.worker import Worker
from models.preprocess import Pixels
from models.probabilities import Logits, Prediction

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

    def predict(self, images: Sequence[Pixels]) -> Logits:
        values = [int(image[0, 0, 0]) for image in images]
        self.batches.append(values)
        self._entered.release()
        self.gate.wait()
        if (error := self.fault(values)) is not None:
            raise error
        return np.array([[value, 0] for value in values], dtype=np.float32)

    def scores(self, logits: Logits) -> list[Prediction]:
        return [Prediction(row, row, None) for row in logits]

    def canary(self) -> bool:
        """The next of `canaries`; with none left, the replica is well."""
        return self.canaries.popleft() if self.canaries else True

    async def entered(self) -> None:
        """Waits until one more batch has come in."""
        await asyncio.to_thread(self._entered.acquire)


def image(value: int) -> Pixels:
    return np.full((1, 1, 3), value, dtype=np.uint8)


class Client:
    """Asks about images and, like a route, keeps their places until all are answered."""

    def __init__(self, batcher: Batcher, *values: int, deadline: float = NEVER, are_decoded: bool = True) -> None:
        self._batcher, self._values = batcher, values
        self._block = batcher.admitted(len(values), deadline)
        self.entries = self._block.__enter__()
        if are_decoded:
            self.decoded()

    def decoded(self) -> None:
        """The images are ready for the queue."""
        for entry, value in zip(self.entries, self._values, strict=True):
            self._batcher.submit(entry, image(value))

    async def outcomes(self) -> list[Answer | ServiceError]:
        """Waits for every image's answer or error."""
        outcomes = await asyncio.gather(*(entry.future for entry in self.entries))
        self.hang_up()
        return outcomes

    async def values(self) -> list[int]:
        """Waits for the answers: what each image was."""
        outcomes = await self.outcomes()
        return [int(outcome.score.logits[0]) for outcome in outcomes if isinstance(outcome, Answer)]

    def hang_up(self) -> None:
        self._block.__exit__(None, None, None)


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
    metrics: Metrics | None = None,
) -> AsyncIterator[Batcher]:
    """A batcher whose replicas work until the end of the block."""
    batcher = Batcher(len(replicas), capacity, metrics or Metrics(), on_change)
    workers = [worker(replica, batcher) for replica in replicas]
    try:
        yield batcher
    finally:
        for replica in replicas:
            replica.gate.set()
        batcher.close()
        for working in workers:
            await asyncio.to_thread(working.join)
