"""Fake replicas for the tests of the queue, which stop where a test tells them to."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import numpy as np

from app.errors import ServiceError
from app.metrics import Metrics
from app.serving.entry import NetworkInput, TimedPrediction
from app.serving.queue import Queue
from app.serving.replica_set import ReplicaSet
from app.serving.service_rate import ServiceRate
from app.serving.worker import Worker
from models.predictions import Logits, Prediction
from models.preprocess import Pixels

NEVER = float("inf")


class FakeReplica:
    """Answers every image with its first pixel's value, once `gate` is open."""

    def __init__(self, max_batch_size: int = 4, *, is_open: bool = True) -> None:
        self.name = "fake"
        self.max_batch_size = max_batch_size
        self.gate = threading.Event()
        self._entered = threading.Semaphore(0)
        self.batches: list[list[int]] = []
        self.fault: Callable[[list[int]], BaseException | None] = lambda _: None
        self.golden_checks: deque[bool] = deque()
        if is_open:
            self.gate.set()

    def compute_logits(self, images: Sequence[NetworkInput]) -> Logits:
        values = [int(image[0, 0, 0]) for image in images]
        self.batches.append(values)
        self._entered.release()
        self.gate.wait()
        if (error := self.fault(values)) is not None:
            raise error
        return np.array([[value, 0] for value in values], dtype=np.float32)

    def make_predictions(self, logits: Logits) -> list[Prediction]:
        return [Prediction(row, row, None) for row in logits]

    def passes_golden_check(self) -> bool:
        """The next of `golden_checks`; with none left, the replica passes."""
        return self.golden_checks.popleft() if self.golden_checks else True

    async def entered(self) -> None:
        """Waits until one more batch has come in."""
        await asyncio.to_thread(self._entered.acquire)


def image(value: int) -> Pixels:
    return np.full((1, 1, 3), value, dtype=np.uint8)


class Client:
    """Sends images and, like a route, keeps their reservation until all are answered."""

    def __init__(self, queue: Queue, *values: int, deadline: float = NEVER, are_decoded: bool = True) -> None:
        self._queue, self._values = queue, values
        self._block = queue.reserve(len(values), deadline)
        self.entries = self._block.__enter__()
        if are_decoded:
            self.decoded()

    def decoded(self) -> None:
        """The images are ready for the queue."""
        for entry, value in zip(self.entries, self._values, strict=True):
            self._queue.submit(entry, image(value))

    async def outcomes(self) -> list[TimedPrediction | ServiceError]:
        """Waits for every image's answer or error."""
        outcomes = await asyncio.gather(*(entry.future for entry in self.entries))
        self.hang_up()
        return outcomes

    async def values(self) -> list[int]:
        """Waits for the answers: what each image was."""
        outcomes = await self.outcomes()
        return [int(outcome.prediction.logits[0]) for outcome in outcomes if isinstance(outcome, TimedPrediction)]

    def hang_up(self) -> None:
        self._block.__exit__(None, None, None)


@asynccontextmanager
async def running(
    *fakes: FakeReplica,
    capacity: int = 16,
    golden_check_seconds: float = 10.0,
    replicas: ReplicaSet | None = None,
    rate: ServiceRate | None = None,
    metrics: Metrics | None = None,
    workers: list[Worker] | None = None,
    queue_type: type[Queue] = Queue,
) -> AsyncIterator[Queue]:
    """A queue whose replicas work until the end of the block, and repeat failed golden checks without a pause.

    The workers are added to `workers`.
    """
    replicas = replicas or ReplicaSet(len(fakes), lambda: None)
    queue = queue_type(capacity, replicas, rate or ServiceRate(), metrics or Metrics())
    workers = [] if workers is None else workers
    workers += [
        Worker(fake, number, queue, replicas, golden_check_seconds=golden_check_seconds, retry_seconds=0.0)
        for number, fake in enumerate(fakes)
    ]
    for worker in workers:
        worker.start()
    try:
        yield queue
    finally:
        for fake in fakes:
            fake.gate.set()
        queue.close()
        for worker in workers:
            await asyncio.to_thread(worker.join)
