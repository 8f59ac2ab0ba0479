"""A replica's thread: isolation, memory, and replicas that stop answering rightly."""

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from app.errors import Internal, NotReady
from models.preprocess import Pixels
from models.probabilities import Logits
from tests.fakes.replicas import NEVER, Client, CuriousWorker, FakeReplica, running

pytestmark = pytest.mark.anyio


async def test_one_bad_image_fails_alone() -> None:
    """A batch that fails is halved until the image at fault is alone; every other one is answered."""
    replica = FakeReplica(ceiling=8)
    replica.fault = lambda values: RuntimeError("bad image") if 5 in values else None
    async with running(replica) as batcher:
        outcomes = await Client(batcher, *range(8)).outcomes()
    assert [isinstance(outcome, Internal) for outcome in outcomes] == [value == 5 for value in range(8)]


async def test_logits_that_are_no_numbers_are_an_error_of_that_image() -> None:
    """An image with NaN logits gets an error, its batch-mates get answers."""

    class NotANumber(FakeReplica):
        def predict(self, images: Sequence[Pixels]) -> Logits:
            logits = super().predict(images)
            logits[logits[:, 0] == 2] = np.nan
            return logits

    async with running(NotANumber()) as batcher:
        outcomes = await Client(batcher, 1, 2, 3).outcomes()
    assert [isinstance(outcome, Internal) for outcome in outcomes] == [False, True, False]


async def test_out_of_memory_halves_the_ceiling_and_retries() -> None:
    """A batch that does not fit is answered in halves, and later batches are no larger than what fitted."""
    replica = FakeReplica(ceiling=8, is_open=False)
    replica.fault = lambda values: torch.OutOfMemoryError("no memory") if len(values) > 2 else None
    async with running(replica) as batcher:
        first = Client(batcher, 0)
        await replica.entered()
        others = Client(batcher, *range(1, 9))
        replica.gate.set()
        assert await first.values() + await others.values() == list(range(9))
    assert replica.batches[1:] == [list(range(1, 9)), [1, 2, 3, 4], [1, 2], [3, 4], [5, 6], [7, 8]]


async def test_the_ceiling_grows_back_slowly() -> None:
    """After memory ran short, it takes many full batches until a batch is larger by one image."""
    replica = FakeReplica(ceiling=4, is_open=False)
    replica.fault = lambda values: torch.OutOfMemoryError("no memory") if 99 in values and len(values) > 1 else None
    async with running(replica, capacity=100) as batcher:
        clients = [Client(batcher, 0)]
        await replica.entered()
        clients.append(Client(batcher, 99, 1, 2, 3))  # leaves a ceiling of one image
        clients.append(Client(batcher, *[1] * 20))
        replica.gate.set()
        for client in clients:
            await client.outcomes()
    assert replica.batches[:7] == [[0], [99, 1, 2, 3], [99, 1], [99], [1], [2], [3]]
    assert [len(batch) for batch in replica.batches[7:]] == [1] * 16 + [2, 2]


async def test_a_replica_that_fails_hands_its_images_to_the_others() -> None:
    """When a whole batch fails and the canary too, another replica answers the images; nobody notices."""
    broken, sound = FakeReplica(is_open=False), FakeReplica(is_open=False)
    given_up = asyncio.Event()
    async with running(broken, sound, on_change=lambda: given_up.set() if batcher.alive == 1 else None) as batcher:
        one = Client(batcher, 0)
        first = [asyncio.ensure_future(replica.entered()) for replica in (broken, sound)]
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        another = Client(batcher, 1)
        await asyncio.gather(*first)
        broken.fault = lambda _: RuntimeError("CUDA error: unspecified launch failure")
        broken.canaries.extend([False] * 4)
        broken.gate.set()
        sound.gate.set()
        assert await one.values() + await another.values() == [0, 1]
        await given_up.wait()
        assert await Client(batcher, 7).values() == [7]
        assert batcher.healthy == 1


async def test_images_of_a_failing_replica_come_first_when_it_is_well_again() -> None:
    """They go back in front of those that came later, but for images that nobody waits for any more."""
    replica, hold = FakeReplica(is_open=False), threading.Event()
    replica.canaries.extend([False, True])

    def fault(values: list[int]) -> Exception | None:
        if values == [0] or len(replica.canaries) < 2:
            return None
        hold.wait()
        return RuntimeError("CUDA error: unspecified launch failure")

    replica.fault = fault
    async with running(replica) as batcher:
        first = Client(batcher, 0)
        await replica.entered()
        stays, gone = Client(batcher, 1), Client(batcher, 2)
        replica.gate.set()
        await replica.entered()
        later = Client(batcher, 3)
        gone.hang_up()
        hold.set()
        assert await first.values() + await stays.values() + await later.values() == [0, 1, 3]
    assert replica.batches == [[0], [1, 2], [1], [2], [1, 3]]


async def test_an_idle_replica_is_examined() -> None:
    """A replica that has nothing to do is asked for the golden sample; if it fails it is taken out, and comes back."""
    replica = FakeReplica()
    replica.canaries.extend([False, False, True])
    seen, changed = [], asyncio.Event()

    def on_change() -> None:
        seen.append(batcher.healthy)
        changed.set()

    async with running(replica, worker=CuriousWorker, on_change=on_change) as batcher:
        while len(seen) < 2:
            await changed.wait()
            changed.clear()
        assert (batcher.healthy, batcher.alive) == (1, 1)


async def test_a_lost_replica_leaves_nobody_waiting() -> None:
    """When the last replica is given up, what waits or is decoded is told so, and nothing more is admitted."""
    replica = FakeReplica(is_open=False)
    lost = asyncio.Event()
    async with running(replica, on_change=lambda: lost.set() if not batcher.alive else None) as batcher:
        first = Client(batcher, 0)
        await replica.entered()
        others = Client(batcher, 1, 2)
        decoding = Client(batcher, 3, are_decoded=False)
        replica.fault = lambda _: RuntimeError("CUDA error: device lost")
        replica.canaries.extend([False] * 5)
        replica.gate.set()
        outcomes = await first.outcomes() + await others.outcomes()
        await lost.wait()
        decoding.decoded()
        outcomes += await decoding.outcomes()
        assert all(isinstance(outcome, NotReady) for outcome in outcomes)
        assert batcher.depth == 0
        with pytest.raises(NotReady), batcher.admitted(1, NEVER):
            pass


async def test_images_at_fault_do_not_take_a_replica_out() -> None:
    """A batch of which every image fails, on a replica that passes its canary, is the images' own fault."""
    replica = FakeReplica()
    replica.fault = lambda values: RuntimeError("bad image") if 5 in values else None
    async with running(replica) as batcher:
        outcomes = await Client(batcher, 5, 5).outcomes()
        assert all(isinstance(outcome, Internal) for outcome in outcomes)
        assert batcher.healthy == 1
