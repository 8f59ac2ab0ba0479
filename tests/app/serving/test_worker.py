"""A replica's thread: bad images, short memory, and replicas that fail their golden check."""

import asyncio
import threading
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pytest
import torch

from app.errors import BadRequest, Internal, NotReady, ServiceError
from app.serving.entry import Batch, Closed, Entry, Idle, NetworkInput
from app.serving.queue import Queue
from app.serving.replica_set import ReplicaSet
from app.serving.worker import Worker
from models.predictions import Logits, Prediction
from tests.fakes.replicas import NEVER, Client, FakeReplica, running

pytestmark = pytest.mark.anyio


async def test_one_bad_image_fails_alone() -> None:
    """A batch that fails is halved until the image at fault is alone; every other one is answered."""
    replica = FakeReplica(max_batch_size=8)
    replica.fault = lambda values: RuntimeError("bad image") if 5 in values else None
    async with running(replica) as queue:
        outcomes = await Client(queue, *range(8)).outcomes()
    assert [isinstance(outcome, Internal) for outcome in outcomes] == [value == 5 for value in range(8)]


async def test_logits_that_are_no_numbers_are_an_error_of_that_image() -> None:
    """An image with NaN logits gets an error, its batch-mates get answers."""

    class NotANumber(FakeReplica):
        def compute_logits(self, images: Sequence[NetworkInput]) -> Logits:
            logits = super().compute_logits(images)
            logits[logits[:, 0] == 2] = np.nan
            return logits

    async with running(NotANumber()) as queue:
        outcomes = await Client(queue, 1, 2, 3).outcomes()
    assert [isinstance(outcome, Internal) for outcome in outcomes] == [False, True, False]


async def test_out_of_memory_halves_the_batch_and_retries() -> None:
    """A batch that does not fit is answered in halves, and later batches are no larger than what fitted."""
    replica = FakeReplica(max_batch_size=8, is_open=False)
    replica.fault = lambda values: torch.OutOfMemoryError("no memory") if len(values) > 2 else None
    async with running(replica) as queue:
        first = Client(queue, 0)
        await replica.entered()
        others = Client(queue, *range(1, 9))
        replica.gate.set()
        assert await first.values() + await others.values() == list(range(9))
    assert replica.batches[1:] == [list(range(1, 9)), [1, 2, 3, 4], [1, 2], [3, 4], [5, 6], [7, 8]]


async def test_the_batch_grows_back_slowly() -> None:
    """After memory ran short, it takes many full batches until a batch is larger by one image."""
    replica = FakeReplica(max_batch_size=4, is_open=False)
    replica.fault = lambda values: torch.OutOfMemoryError("no memory") if 99 in values and len(values) > 1 else None
    async with running(replica, capacity=100) as queue:
        clients = [Client(queue, 0)]
        await replica.entered()
        clients.append(Client(queue, 99, 1, 2, 3))  # leaves a maximum of one image
        clients.append(Client(queue, *[1] * 20))
        replica.gate.set()
        for client in clients:
            await client.outcomes()
    assert replica.batches[:7] == [[0], [99, 1, 2, 3], [99, 1], [99], [1], [2], [3]]
    assert [len(batch) for batch in replica.batches[7:]] == [1] * 16 + [2, 2]


async def test_a_replica_that_fails_hands_its_images_to_the_others() -> None:
    """When a whole batch fails and the golden check too, another replica answers the images, and no request fails."""
    broken, sound = FakeReplica(is_open=False), FakeReplica(is_open=False)
    given_up = asyncio.Event()
    replicas = ReplicaSet(2, lambda: given_up.set() if replicas.alive == 1 else None)
    async with running(broken, sound, replicas=replicas) as queue:
        one = Client(queue, 0)
        first = [asyncio.ensure_future(replica.entered()) for replica in (broken, sound)]
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        another = Client(queue, 1)
        await asyncio.gather(*first)
        broken.fault = lambda _: RuntimeError("CUDA error: unspecified launch failure")
        broken.golden_checks.extend([False] * 4)
        broken.gate.set()
        sound.gate.set()
        assert await one.values() + await another.values() == [0, 1]
        await given_up.wait()
        assert await Client(queue, 7).values() == [7]
        assert replicas.healthy == 1


async def test_images_of_a_failing_replica_come_first_when_it_is_well_again() -> None:
    """They go back in front of later images, except for those whose client has gone."""
    replica, hold = FakeReplica(is_open=False), threading.Event()
    replica.golden_checks.extend([False, True])

    def fault(values: list[int]) -> Exception | None:
        if values == [0] or len(replica.golden_checks) < 2:
            return None
        hold.wait()
        return RuntimeError("CUDA error: unspecified launch failure")

    replica.fault = fault
    async with running(replica) as queue:
        first = Client(queue, 0)
        await replica.entered()
        stays, gone = Client(queue, 1), Client(queue, 2)
        replica.gate.set()
        await replica.entered()
        later = Client(queue, 3)
        gone.hang_up()
        hold.set()
        assert await first.values() + await stays.values() + await later.values() == [0, 1, 3]
    assert replica.batches == [[0], [1, 2], [1], [2], [1, 3]]


async def test_an_idle_replica_gets_golden_checks() -> None:
    """An idle replica gets a golden check; one that fails is taken out until it passes again."""
    replica = FakeReplica()
    replica.golden_checks.extend([False, False, True])
    seen, changed = [], asyncio.Event()

    def on_change() -> None:
        seen.append(replicas.healthy)
        changed.set()

    replicas = ReplicaSet(1, on_change)
    async with running(replica, golden_check_seconds=0.0, replicas=replicas):
        while len(seen) < 2:
            await changed.wait()
            changed.clear()
        assert (replicas.healthy, replicas.alive) == (1, 1)


async def test_a_lost_replica_leaves_no_image_waiting() -> None:
    """When the last replica is given up, images that wait or are decoded get an error, and none is admitted."""
    replica = FakeReplica(is_open=False)
    lost = asyncio.Event()
    replicas = ReplicaSet(1, lambda: lost.set() if not replicas.alive else None)
    async with running(replica, replicas=replicas) as queue:
        first = Client(queue, 0)
        await replica.entered()
        others = Client(queue, 1, 2)
        decoding = Client(queue, 3, are_decoded=False)
        replica.fault = lambda _: RuntimeError("CUDA error: device lost")
        replica.golden_checks.extend([False] * 5)
        replica.gate.set()
        outcomes = await first.outcomes() + await others.outcomes()
        await lost.wait()
        decoding.decoded()
        outcomes += await decoding.outcomes()
        assert all(isinstance(outcome, NotReady) for outcome in outcomes)
        assert queue.depth == 0
        with pytest.raises(NotReady), queue.reserve(1, NEVER):
            pass


async def test_images_at_fault_do_not_take_a_replica_out() -> None:
    """A batch of which every image fails, on a replica that passes its golden check, is caused by the images."""
    replica = FakeReplica()
    replica.fault = lambda values: RuntimeError("bad image") if 5 in values else None
    replicas = ReplicaSet(1, lambda: None)
    async with running(replica, replicas=replicas) as queue:
        outcomes = await Client(queue, 5, 5).outcomes()
        assert all(isinstance(outcome, Internal) for outcome in outcomes)
        assert replicas.healthy == 1


async def test_a_tensor_without_finite_logits_is_its_callers_fault() -> None:
    """An image's pixels cannot be too large for the network, a caller's normalised pixels can."""

    class Overflowing(FakeReplica):
        def compute_logits(self, images: Sequence[NetworkInput]) -> Logits:
            return np.array([[np.inf, 0] for _ in images], dtype=np.float32)

    async with running(Overflowing()) as queue:
        client = Client(queue, 1, are_decoded=False)
        queue.submit(client.entries[0], np.ones((3, 1, 1), dtype=np.float32))
        [outcome] = await client.outcomes()
    assert isinstance(outcome, BadRequest)


class PanicError(BaseException):
    """What an extension that is written in Rust raises for a fault of its own."""


async def test_an_error_that_is_no_exception_fails_one_image_alone() -> None:
    """A BaseException in the model ends no thread: the image at fault is found, and later ones are answered."""
    replica = FakeReplica(max_batch_size=8)
    replica.fault = lambda values: PanicError() if 5 in values else None
    async with running(replica) as queue:
        outcomes = await Client(queue, *range(8)).outcomes()
        assert [isinstance(outcome, Internal) for outcome in outcomes] == [value == 5 for value in range(8)]
        assert await Client(queue, 9).values() == [9]


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")]
)
async def test_short_memory_outside_a_gpu_halves_the_batch(error: Exception) -> None:
    """Python's MemoryError and torch's error on a CPU count as short memory, also behind the network."""

    class Short(FakeReplica):
        def make_predictions(self, logits: Logits) -> list[Prediction]:
            if len(logits) > 2:
                raise error
            return super().make_predictions(logits)

    replica = Short(max_batch_size=4, is_open=False)
    async with running(replica) as queue:
        first = Client(queue, 0)
        await replica.entered()
        others = Client(queue, *range(1, 9))
        replica.gate.set()
        assert await first.values() + await others.values() == list(range(9))
    assert [len(batch) for batch in replica.batches] == [1, 4, 2, 2, 2, 2]


async def test_predictions_of_a_wrong_number_are_an_error_of_the_replica() -> None:
    """A replica that returns fewer predictions than images is found out, and no image waits for ever."""

    class Forgetful(FakeReplica):
        def make_predictions(self, logits: Logits) -> list[Prediction]:
            return super().make_predictions(logits)[:-1]

    async with running(Forgetful()) as queue:
        outcomes = await Client(queue, 1, 2).outcomes()
    assert all(isinstance(outcome, Internal) for outcome in outcomes)


class BrokenQueue(Queue):
    """A queue whose methods fail as often as a test says."""

    failures: ClassVar[dict[str, int]] = {}

    def fail_now(self, name: str) -> None:
        if self.failures.get(name):
            self.failures[name] -= 1
            raise MemoryError(name)

    def next_batch(self, max_batch_size: int, idle_seconds: float) -> Batch | Idle | Closed:
        outcome = super().next_batch(max_batch_size, idle_seconds)
        if isinstance(outcome, Batch) and self.failures.get("next_batch"):
            self.requeue(outcome.entries)
            self.fail_now("next_batch")
        return outcome

    def complete(self, entries: Sequence[Entry], outcomes: Sequence[Prediction | ServiceError], seconds: float) -> None:
        self.fail_now("complete")
        super().complete(entries, outcomes, seconds)

    def fail_waiting(self) -> None:
        self.fail_now("fail_waiting")
        super().fail_waiting()


async def test_a_fault_of_the_thread_requeues_its_images() -> None:
    """An error outside the model counts as the replica's, and its images are answered at the next try."""
    BrokenQueue.failures = {"complete": 1}
    replica = FakeReplica()
    async with running(replica, queue_type=BrokenQueue) as queue:
        assert await Client(queue, 1, 2).values() == [1, 2]
    assert replica.batches == [[1, 2], [1, 2]]


async def test_an_image_is_not_tried_for_ever() -> None:
    """After three failures of the thread the image is answered with an error, and the replica works on."""
    BrokenQueue.failures = {"complete": 3}
    replica = FakeReplica()
    async with running(replica, queue_type=BrokenQueue) as queue:
        [outcome] = await Client(queue, 1).outcomes()
        assert isinstance(outcome, Internal)
        assert await Client(queue, 2).values() == [2]
    assert replica.batches == [[1], [1], [1], [2]]


async def test_a_thread_that_only_fails_gives_its_replica_up() -> None:
    """Faults in a row without an image lose the replica, and no image waits for it."""
    BrokenQueue.failures = {"next_batch": 3}
    replicas = ReplicaSet(1, lambda: None)
    async with running(FakeReplica(), replicas=replicas, queue_type=BrokenQueue) as queue:
        [outcome] = await Client(queue, 1).outcomes()
    assert isinstance(outcome, Internal | NotReady)
    assert replicas.alive == 0


async def test_a_fault_while_a_replica_is_given_up_loses_nothing() -> None:
    """The thread ends, and its images and those that wait are answered nevertheless."""
    BrokenQueue.failures = {"fail_waiting": 1}
    replica, replicas = FakeReplica(), ReplicaSet(1, lambda: None)
    replica.fault = lambda _: RuntimeError("CUDA error: device lost")
    replica.golden_checks.extend([False] * 5)
    async with running(replica, replicas=replicas, queue_type=BrokenQueue) as queue:
        outcomes = await Client(queue, 1, 2).outcomes()
    assert all(isinstance(outcome, NotReady) for outcome in outcomes)


async def test_a_thread_that_has_died_is_abandoned() -> None:
    """What ends the thread itself is told apart from its orderly end, and its images are answered."""
    BrokenQueue.failures = {"fail_waiting": 2}
    replica, replicas, workers = FakeReplica(), ReplicaSet(1, lambda: None), list[Worker]()
    replica.fault = lambda _: RuntimeError("CUDA error: device lost")
    replica.golden_checks.extend([False] * 5)
    unhandled: list[object] = []
    before, threading.excepthook = threading.excepthook, unhandled.append
    try:
        async with running(replica, replicas=replicas, workers=workers, queue_type=BrokenQueue) as queue:
            client = Client(queue, 1)
            await asyncio.to_thread(workers[0].join)
            assert workers[0].activity.current is None
            workers[0].abandon()
            [outcome] = await client.outcomes()
    finally:
        threading.excepthook = before
    assert isinstance(outcome, NotReady)
    assert len(unhandled) == 1
