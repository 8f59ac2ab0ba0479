"""The queue: order, admission, and what is dropped."""

import asyncio
import time

import pytest
from replicas import NEVER, FakeReplica, image, running, submit, value_of

from app.errors import DeadlineExceeded, QueueFull

pytestmark = pytest.mark.anyio


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
        await replica.entered()
        futures += submit(batcher, 1, 2, 3, 4, 5)
        replica.gate.set()
        await asyncio.gather(*futures)
    assert replica.batches == [[0], [1, 2, 3, 4], [5]]


async def test_a_cancelled_client_leaves_its_batch_mates_answered() -> None:
    """A client that goes while its batch is computed takes nobody with it."""
    replica = FakeReplica(is_open=False)
    async with running(replica) as batcher:
        first = submit(batcher, 0)
        await replica.entered()
        gone, stays = submit(batcher, 1, 2)
        replica.gate.set()
        await replica.entered()
        gone.cancel()
        assert value_of(await stays) == 2
        await asyncio.gather(*first)


async def test_what_nobody_waits_for_is_not_computed() -> None:
    """An image whose client hangs up in the queue never reaches a replica, and its place is free at once."""
    replica = FakeReplica(is_open=False)
    async with running(replica, capacity=2) as batcher:
        first = submit(batcher, 0)
        await replica.entered()
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
        await replica.entered()
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


async def test_replicas_share_one_queue() -> None:
    """While one replica is busy the other takes what waits."""
    busy, free = FakeReplica(is_open=False), FakeReplica(is_open=False)
    async with running(busy, free) as batcher:
        futures = submit(batcher, 0)
        done = [asyncio.ensure_future(replica.entered()) for replica in (busy, free)]
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
    async with running(replica) as batcher:
        futures = submit(batcher, 1, 2, 3)
        batcher.close()
        replica.gate.set()
        assert [value_of(answer) for answer in await asyncio.gather(*futures)] == [1, 2, 3]
