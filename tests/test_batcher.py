"""The batcher, against replicas that are written out here and stop where a test tells them to."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest
import torch

from app.batcher import Answer, Batcher
from app.errors import DeadlineExceeded, Internal, QueueFull
from app.metrics import Metrics
from models.preprocess import Pixels

pytestmark = pytest.mark.anyio
NEVER = float("inf")


class FakeReplica:
    """Answers every image with its first pixel's value, once `gate` is open."""

    def __init__(self, ceiling: int = 4, *, is_open: bool = True) -> None:
        self.name = "fake"
        self.ceiling = ceiling
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.batches: list[list[int]] = []
        self.fails_on: Callable[[list[int]], Exception | None] = lambda _: None
        if is_open:
            self.gate.set()

    def predict(self, batch: Pixels) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        values = [int(image[0, 0, 0]) for image in batch]
        self.batches.append(values)
        self.entered.release()
        self.gate.wait()
        if (error := self.fails_on(values)) is not None:
            raise error
        return np.array([[value, 0] for value in values], dtype=np.float32)


def image(value: int) -> Pixels:
    return np.full((1, 1, 3), value, dtype=np.uint8)


def value_of(answer: Answer) -> int:
    return int(answer.logits[0])


def submit(batcher: Batcher, *values: int, deadline: float = NEVER) -> "list[asyncio.Future[Answer]]":
    with batcher.reserve(len(values)) as places:
        return [places.submit(image(value), deadline) for value in values]


async def entered(replica: FakeReplica) -> None:
    """Waits until the replica has been given one more batch."""
    await asyncio.to_thread(replica.entered.acquire)


@asynccontextmanager
async def running(*replicas: FakeReplica, capacity: int = 16) -> AsyncIterator[Batcher]:
    batcher = Batcher(replicas, capacity, Metrics())
    try:
        yield batcher
    finally:
        for replica in replicas:
            replica.gate.set()
        for thread in batcher.close():
            await asyncio.to_thread(thread.join)


async def test_every_image_gets_its_own_answer() -> None:
    """Answers come back to the images that they belong to."""
    async with running(FakeReplica()) as batcher:
        answers = await asyncio.gather(*submit(batcher, *range(10)))
    assert [value_of(answer) for answer in answers] == list(range(10))


async def test_a_batch_is_what_waits_when_the_replica_is_free() -> None:
    """The first image goes alone at once; those that came meanwhile go together, up to the ceiling."""
    replica = FakeReplica(ceiling=4, is_open=False)
    async with running(replica) as batcher:
        futures = submit(batcher, 0)
        await entered(replica)
        futures += submit(batcher, 1, 2, 3, 4, 5)
        replica.gate.set()
        await asyncio.gather(*futures)
    assert replica.batches == [[0], [1, 2, 3, 4], [5]]


async def test_a_cancelled_client_leaves_its_batch_mates_answered() -> None:
    """A client that goes while its batch is computed takes nobody with it."""
    replica = FakeReplica(is_open=False)
    async with running(replica) as batcher:
        first = submit(batcher, 0)
        await entered(replica)
        gone, stays = submit(batcher, 1, 2)
        replica.gate.set()
        await entered(replica)
        gone.cancel()
        assert value_of(await stays) == 2
        await asyncio.gather(*first)


async def test_what_nobody_waits_for_is_not_computed() -> None:
    """An image whose client hangs up in the queue never reaches a replica, and its place is free at once."""
    replica = FakeReplica(is_open=False)
    async with running(replica, capacity=2) as batcher:
        first = submit(batcher, 0)
        await entered(replica)
        gone, stays = submit(batcher, 1, 2)
        gone.cancel()
        await asyncio.sleep(0)
        assert batcher.depth == 1
        late = submit(batcher, 3)
        replica.gate.set()
        await asyncio.gather(*first, stays, *late)
    assert replica.batches == [[0], [2, 3]]


async def test_what_is_late_is_not_computed() -> None:
    """An image whose deadline passed in the queue is refused with deadline_exceeded before it is computed."""
    replica = FakeReplica()
    async with running(replica) as batcher:
        late, stays = submit(batcher, 1, deadline=time.monotonic() - 1) + submit(batcher, 2)
        with pytest.raises(DeadlineExceeded):
            await late
        assert value_of(await stays) == 2
    assert [1] not in replica.batches


async def test_the_queue_is_bounded() -> None:
    """Beyond its capacity the queue refuses, with a Retry-After of at least one second."""
    replica = FakeReplica(is_open=False)
    async with running(replica, capacity=3) as batcher:
        first = submit(batcher, 0)
        await entered(replica)
        waiting = submit(batcher, 1, 2)
        with pytest.raises(QueueFull) as refusal:
            batcher.reserve(2)
        assert int(refusal.value.headers["Retry-After"]) >= 1
        waiting += submit(batcher, 3)
        replica.gate.set()
        await asyncio.gather(*first, *waiting)


async def test_retry_after_is_depth_times_seconds_per_image() -> None:
    """Retry-After grows with what waits and with what an image takes."""
    async with running(FakeReplica(), capacity=10) as batcher:
        batcher._seconds_per_image = 0.7
        with batcher.reserve(10), pytest.raises(QueueFull) as refusal:
            batcher.reserve(1)
    assert refusal.value.headers["Retry-After"] == "7"


async def test_reserved_places_come_back() -> None:
    """Places that were not used are given back, at the latest when the block ends."""
    async with running(FakeReplica(), capacity=4) as batcher:
        with batcher.reserve(4) as places:
            await places.submit(image(0), NEVER)
            places.give_back()
            assert batcher.depth == 2
        assert batcher.depth == 0


async def test_one_bad_image_fails_alone() -> None:
    """A batch that fails is halved until the image at fault is alone; every other one is answered."""
    replica = FakeReplica(ceiling=8)
    replica.fails_on = lambda values: RuntimeError("bad image") if 5 in values else None
    async with running(replica) as batcher:
        outcomes = await asyncio.gather(*submit(batcher, *range(8)), return_exceptions=True)
    assert [isinstance(outcome, Internal) for outcome in outcomes] == [value == 5 for value in range(8)]


async def test_logits_that_are_no_numbers_are_an_error_of_that_image() -> None:
    """An image with NaN logits gets an error, its batch-mates get answers."""

    class NotANumber(FakeReplica):
        def predict(self, batch: Pixels) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
            logits = super().predict(batch)
            logits[logits[:, 0] == 2] = np.nan
            return logits

    async with running(NotANumber()) as batcher:
        outcomes = await asyncio.gather(*submit(batcher, 1, 2, 3), return_exceptions=True)
    assert [isinstance(outcome, Internal) for outcome in outcomes] == [False, True, False]


async def test_out_of_memory_halves_the_ceiling_and_retries() -> None:
    """A batch that does not fit is answered in halves, and later batches are no larger than what fitted."""
    replica = FakeReplica(ceiling=8, is_open=False)
    replica.fails_on = lambda values: torch.OutOfMemoryError("no memory") if len(values) > 2 else None
    async with running(replica) as batcher:
        futures = submit(batcher, 0)
        await entered(replica)
        futures += submit(batcher, *range(1, 9))
        replica.gate.set()
        answers = await asyncio.gather(*futures)
    assert [value_of(answer) for answer in answers] == list(range(9))
    assert replica.ceiling == 2


async def test_replicas_share_one_queue() -> None:
    """While one replica is busy the other takes what waits."""
    busy, free = FakeReplica(is_open=False), FakeReplica(is_open=False)
    async with running(busy, free) as batcher:
        futures = submit(batcher, 0)
        done = [asyncio.ensure_future(entered(replica)) for replica in (busy, free)]
        await asyncio.wait(done, return_when=asyncio.FIRST_COMPLETED)
        futures += submit(batcher, 1)
        await asyncio.gather(*done)
        busy.gate.set()
        free.gate.set()
        await asyncio.gather(*futures)
    assert sorted(busy.batches + free.batches) == [[0], [1]]


async def test_closing_answers_what_waits() -> None:
    """The threads end only when the queue is empty."""
    replica = FakeReplica(ceiling=1, is_open=False)
    batcher = Batcher([replica], 8, Metrics())
    futures = submit(batcher, 1, 2, 3)
    threads = batcher.close()
    replica.gate.set()
    assert [value_of(answer) for answer in await asyncio.gather(*futures)] == [1, 2, 3]
    for thread in threads:
        await asyncio.to_thread(thread.join)
