"""The queue: order, admission, deadlines and dropped images."""

import asyncio
import time

import pytest

from app.errors import DeadlineExceeded, QueueFull, UndecodableImage
from app.metrics import Metrics
from app.serving.entry import Batch, Closed, Idle
from app.serving.queue import Queue
from app.serving.replica_set import ReplicaSet
from app.serving.service_rate import ServiceRate
from tests.fakes.replicas import NEVER, Client, FakeReplica, image, running

pytestmark = pytest.mark.anyio


async def test_every_image_gets_its_own_answer() -> None:
    """Answers come back to the images that they belong to."""
    async with running(FakeReplica()) as queue:
        assert await Client(queue, *range(10)).values() == list(range(10))


async def test_a_batch_is_what_waits_when_the_replica_is_free() -> None:
    """The first image goes alone at once; those that came meanwhile go together, up to the maximum batch size."""
    replica = FakeReplica(max_batch_size=4, is_open=False)
    async with running(replica) as queue:
        first = Client(queue, 0)
        await replica.entered()
        others = Client(queue, 1, 2, 3, 4, 5)
        replica.gate.set()
        assert await first.values() + await others.values() == [0, 1, 2, 3, 4, 5]
    assert replica.batches == [[0], [1, 2, 3, 4], [5]]


async def test_a_client_that_goes_leaves_its_batch_mates_answered() -> None:
    """When a client goes while its batch is computed, the other images of the batch are answered."""
    replica = FakeReplica(is_open=False)
    async with running(replica) as queue:
        first = Client(queue, 0)
        await replica.entered()
        gone, stays = Client(queue, 1), Client(queue, 2)
        replica.gate.set()
        await replica.entered()
        gone.hang_up()
        assert await stays.values() == [2]
        assert await first.values() == [0]


async def test_abandoned_images_are_not_computed() -> None:
    """An image whose client hangs up in the queue never reaches a replica, and its reservation is released at once."""
    replica = FakeReplica(is_open=False)
    async with running(replica, capacity=2) as queue:
        first = Client(queue, 0)
        await replica.entered()
        gone, stays = Client(queue, 1), Client(queue, 2)
        gone.hang_up()
        assert queue.depth == 1
        late = Client(queue, 3)
        replica.gate.set()
        assert await first.values() + await stays.values() + await late.values() == [0, 2, 3]
    assert replica.batches == [[0], [2, 3]]


async def test_late_images_are_not_computed() -> None:
    """An image whose deadline passed in the queue is refused with deadline_exceeded before it is computed."""
    replica = FakeReplica()
    async with running(replica) as queue:
        late, stays = Client(queue, 1, deadline=time.monotonic() - 1), Client(queue, 2)
        [outcome] = await late.outcomes()
        assert isinstance(outcome, DeadlineExceeded)
        assert await stays.values() == [2]
    assert [1] not in replica.batches


async def test_the_queue_is_bounded() -> None:
    """Beyond its capacity the queue refuses, with a Retry-After of at least one second."""
    replica = FakeReplica(is_open=False)
    async with running(replica, capacity=3) as queue:
        clients = [Client(queue, 0)]
        await replica.entered()
        clients.append(Client(queue, 1, 2))
        with pytest.raises(QueueFull) as refusal, queue.reserve(2, NEVER):
            pass
        assert int(refusal.value.headers["Retry-After"]) >= 1
        clients.append(Client(queue, 3))
        replica.gate.set()
        assert [await client.values() for client in clients] == [[0], [1, 2], [3]]


async def test_retry_after_is_depth_times_seconds_per_image() -> None:
    """Retry-After grows with what waits and with what an image takes."""
    rate = ServiceRate()
    rate.observe(images=1, seconds=0.7, replicas=1)
    async with running(FakeReplica(), capacity=10, rate=rate) as queue:
        with queue.reserve(10, NEVER), pytest.raises(QueueFull) as refusal:
            queue.check_capacity()
    assert refusal.value.headers["Retry-After"] == "7"


async def test_every_reservation_is_released() -> None:
    """A reservation is released once: by a replica, by an image that cannot be decoded, or when its client goes."""
    replica = FakeReplica()
    async with running(replica, capacity=4) as queue:
        with queue.reserve(4, NEVER) as (computed, broken, gone, slow):
            queue.submit(computed, image(0))
            await computed.future
            queue.fail(broken, UndecodableImage("broken"))
            assert isinstance(await broken.future, UndecodableImage)
            assert queue.depth == 2
        assert queue.depth == 0
        queue.submit(slow, image(1))  # its decoding ends when its client has gone
        queue.fail(gone, UndecodableImage("broken"))
        assert queue.depth == 0
        assert await Client(queue, 2).values() == [2]
    assert replica.batches == [[0], [2]]


async def test_dropped_images_are_counted_by_reason() -> None:
    """An image without an answer is counted once: by its deadline, or because its client has gone."""
    replica, metrics = FakeReplica(is_open=False), Metrics()
    async with running(replica, metrics=metrics) as queue:
        first = Client(queue, 0)
        await replica.entered()
        Client(queue, 1, 2).hang_up()
        past = time.monotonic() - 1
        Client(queue, 3, deadline=past).hang_up()
        late = Client(queue, 4, deadline=past)
        replica.gate.set()
        await late.outcomes()
        await first.outcomes()
    text = metrics.render().decode()
    assert 'vgg_dropped_total{reason="disconnected"} 2.0' in text
    assert 'vgg_dropped_total{reason="deadline"} 2.0' in text


async def test_replicas_share_one_queue() -> None:
    """While one replica is busy the other takes the waiting images."""
    busy, free = FakeReplica(is_open=False), FakeReplica(is_open=False)
    async with running(busy, free) as queue:
        clients = [Client(queue, 0)]
        done = [asyncio.ensure_future(replica.entered()) for replica in (busy, free)]
        await asyncio.wait(done, return_when=asyncio.FIRST_COMPLETED)
        clients.append(Client(queue, 1))
        await asyncio.gather(*done)
        busy.gate.set()
        free.gate.set()
        assert [await client.values() for client in clients] == [[0], [1]]
    assert sorted(busy.batches + free.batches) == [[0], [1]]


async def test_a_replica_is_told_why_there_is_no_batch() -> None:
    """An empty queue is idle while it is open, and closed after that; what waits comes before the end."""
    queue = Queue(4, ReplicaSet(1, lambda: None), ServiceRate(), Metrics())
    assert queue.next_batch(4, idle_seconds=0.0) == Idle()
    client = Client(queue, 1, 2)
    queue.close()
    assert queue.next_batch(1, idle_seconds=0.0) == Batch(client.entries[:1])
    assert queue.next_batch(4, idle_seconds=0.0) == Batch(client.entries[1:])
    assert queue.next_batch(4, idle_seconds=0.0) == Closed()
    client.hang_up()


async def test_closing_answers_what_waits() -> None:
    """The threads end only when the queue is empty."""
    replica = FakeReplica(max_batch_size=1, is_open=False)
    async with running(replica) as queue:
        client = Client(queue, 1, 2, 3)
        queue.close()
        replica.gate.set()
        assert await client.values() == [1, 2, 3]
