"""The watchdog: replicas that are stuck, that hang, and whose threads have died."""

import asyncio

import pytest

from app.errors import NotReady
from app.metrics import Metrics
from app.serving.activity import Activity
from app.serving.entry import Batch, Entry
from app.serving.queue import Queue
from app.serving.replica_set import ReplicaSet
from app.serving.service_rate import ServiceRate
from app.serving.watchdog import Watchdog, stuck_after
from app.serving.worker import Worker
from tests.fakes.replicas import Client, FakeReplica, running

pytestmark = pytest.mark.anyio
STUCK, HUNG = 30, 120  # looks, one a second, after which a replica that does not move is so


class FakeWorker:
    """A worker without a thread. It takes one batch and keeps it."""

    def __init__(self, queue: Queue, replicas: ReplicaSet) -> None:
        self.name = "fake"
        self.activity = Activity()
        self.held: list[Entry] = []
        self.is_dead = False
        self._queue, self._replicas = queue, replicas

    def take_batch(self) -> None:
        batch = self._queue.next_batch(4, idle_seconds=0.0)
        assert isinstance(batch, Batch)
        self.held = batch.entries
        self.activity.begin()

    def take_back(self) -> list[Entry]:
        held, self.held = self.held, []
        return held

    def has_died(self) -> bool:
        return self.is_dead

    def abandon(self) -> None:
        self.is_dead = False
        self._queue.requeue(self.take_back())


class Watched:
    """A queue, its replicas and a watchdog that looks only when a test tells it to."""

    def __init__(self, workers: int = 1) -> None:
        self.replicas = ReplicaSet(workers, lambda: None)
        self.queue = Queue(16, self.replicas, ServiceRate(), Metrics())
        self.workers = [FakeWorker(self.queue, self.replicas) for _ in range(workers)]
        self.watchdog = Watchdog(self.workers, self.queue, self.replicas, STUCK, interval_seconds=1.0)

    def look(self, times: int) -> None:
        for _ in range(times):
            self.watchdog.look()

    def counts(self) -> tuple[int, int]:
        return self.replicas.healthy, self.replicas.responsive


async def test_a_replica_that_does_not_move_is_stuck_then_hung_and_recovers() -> None:
    """It gets no work after the first bound, is given up for liveness after the second, and counts again at once."""
    watched = Watched()
    client = Client(watched.queue, 1)
    watched.workers[0].take_batch()
    watched.look(STUCK)
    assert watched.counts() == (1, 1)
    watched.look(1)
    assert watched.counts() == (0, 1)
    watched.look(HUNG - STUCK)
    assert watched.counts() == (0, 0)
    watched.workers[0].activity.end()
    watched.look(1)
    assert watched.counts() == (1, 1)
    client.hang_up()


async def test_a_replica_that_is_idle_or_moves_is_never_stuck() -> None:
    """Neither waiting for work nor a long batch of many calls of the model counts as stuck."""
    watched = Watched(workers=2)
    for _ in range(HUNG + 1):
        watched.workers[1].activity.begin()
        watched.look(1)
    assert watched.counts() == (2, 2)


async def test_other_replicas_get_the_images_of_a_stuck_one() -> None:
    """They go back to the front of the queue, and the stuck replica no longer holds them."""
    watched = Watched(workers=2)
    stuck, other = watched.workers
    first, later = Client(watched.queue, 1), Client(watched.queue, 2)
    stuck.take_batch()
    watched.look(STUCK + 1)
    assert stuck.held == []
    other.take_batch()
    assert other.held == first.entries + later.entries
    first.hang_up()
    later.hang_up()


async def test_the_only_replica_keeps_its_images_until_it_hangs() -> None:
    """Until then it may still answer them. After that they get NotReady, and so do those that wait."""
    watched = Watched()
    held = Client(watched.queue, 1)
    watched.workers[0].take_batch()
    waiting = Client(watched.queue, 2)
    watched.look(HUNG)
    assert watched.workers[0].held == held.entries
    watched.look(1)
    outcomes = await held.outcomes() + await waiting.outcomes()
    assert [type(outcome) for outcome in outcomes] == [NotReady, NotReady]
    assert watched.queue.depth == 0


async def test_a_late_answer_of_a_stuck_replica_is_dropped() -> None:
    """Another replica answers the image, once, and the stuck one works on when it moves again."""
    slow, other = FakeReplica(is_open=False), FakeReplica(is_open=False)
    replicas = ReplicaSet(2, lambda: None)
    workers: list[Worker] = []
    async with running(slow, other, replicas=replicas, workers=workers) as queue:
        watchdog = Watchdog(workers, queue, replicas, stuck_seconds=1.0, interval_seconds=1.0)
        client = Client(queue, 7)
        entered = [asyncio.ensure_future(replica.entered()) for replica in (slow, other)]
        await asyncio.wait(entered, return_when=asyncio.FIRST_COMPLETED)
        if entered[1].done():
            slow, other = other, slow
        watchdog.look()
        watchdog.look()
        other.gate.set()
        assert await client.values() == [7]
        slow.gate.set()
        assert await Client(queue, 8).values() == [8]
    assert slow.batches[0] == other.batches[0] == [7]


async def test_a_thread_that_has_died_is_found() -> None:
    """Its images go back to the queue."""
    watched = Watched()
    client = Client(watched.queue, 1)
    watched.workers[0].take_batch()
    watched.workers[0].is_dead = True
    watched.look(1)
    assert watched.queue.depth == 1
    client.hang_up()


async def test_it_looks_by_itself_until_it_is_stopped() -> None:
    """A fault of one look does not end the watch. The event loop reports it."""
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context["exception"]))
    changed = asyncio.Event()
    replicas = ReplicaSet(1, changed.set)
    queue = Queue(16, replicas, ServiceRate(), Metrics())

    class Faulty(FakeWorker):
        looks = 0

        def has_died(self) -> bool:
            self.looks += 1
            if self.looks == 1:
                raise MemoryError
            return False

    worker = Faulty(queue, replicas)
    worker.activity.begin()
    watchdog = Watchdog([worker], queue, replicas, stuck_seconds=0.002, interval_seconds=0.001)
    watchdog.start()
    await changed.wait()
    watchdog.stop()
    assert replicas.healthy == 0
    assert worker.looks >= 3
    assert [type(fault) for fault in faults] == [MemoryError]


async def test_a_busy_replica_is_described() -> None:
    """The line at the end of the process names who is busy, and for how long."""
    watched = Watched(workers=2)
    watched.workers[0].activity.begin()
    watched.look(8)
    assert watched.watchdog.describe_busy() == ["replica fake has been busy with one batch for about 7 s"]


def test_the_bound_follows_the_measured_batch() -> None:
    """A batch may take ten times what the largest one took at load, and at least half a minute."""
    assert stuck_after(0.1) == 30.0
    assert stuck_after(20.0) == 200.0
