"""Decoder processes: what a file may do to its own process, and what all others notice of it."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from app.decoding.connection import Job
from app.decoding.messages import FREE_BYTES, PNG_SIGNATURE, SizedPixels, Task
from app.decoding.processes import Decoders
from app.decoding.zygote import Zygote
from app.errors import ImageTooLarge, Internal, Overloaded, ServiceError, UndecodableImage
from app.metrics import Metrics
from models.preprocess import Pixels, Preprocessing

pytestmark = pytest.mark.anyio

TASK = Task(Preprocessing(size=2, resize=2, mean=(0.5,), std=(0.5,), channels=1), max_image_pixels=8_000_000)
COSTLY_BYTES = 16 * 8_000_000
SOUND = b"sound"
NEVER = 1e9  # seconds


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    zygote = Zygote("tests.fakes.odd_decoders")
    yield zygote
    zygote.close()


@asynccontextmanager
async def running(zygote: Zygote, count: int = 1, slow_seconds: float = NEVER) -> AsyncIterator[Decoders]:
    decoders = Decoders(zygote, TASK, count, Metrics(), slow_seconds)
    await decoders.start()
    try:
        yield decoders
    finally:
        await decoders.close()


def submit(decoders: Decoders, data: bytes) -> "tuple[Job, asyncio.Future[Pixels | ServiceError]]":
    future: asyncio.Future[Pixels | ServiceError] = asyncio.get_running_loop().create_future()
    return decoders.submit(data, future.set_result), future


async def decode(decoders: Decoders, data: bytes) -> Pixels | ServiceError:
    return await submit(decoders, data)[1]


def is_sound(outcome: Pixels | ServiceError) -> bool:
    return isinstance(outcome, np.ndarray) and outcome.shape == (2, 2, 1) and bool((outcome == 127).all())


async def test_a_file_becomes_pixels(zygote: Zygote) -> None:
    """They have the shape of the network's input."""
    async with running(zygote) as decoders:
        assert is_sound(await decode(decoders, SOUND))


async def test_an_answered_file_is_freed(zygote: Zygote) -> None:
    """Its job may live on in a cycle with its request's answer."""
    async with running(zygote) as decoders:
        job, future = submit(decoders, SOUND)
        await future
        assert job.data == b""


async def test_files_at_once_are_all_answered(zygote: Zygote) -> None:
    """More files than decoders wait for their turn."""
    async with running(zygote, count=2) as decoders:
        assert all(map(is_sound, await asyncio.gather(*(decode(decoders, SOUND) for _ in range(20)))))


@pytest.mark.parametrize(("count", "sound"), [(1, 4), (2, 9)])
async def test_a_crash_costs_its_own_file_alone(zygote: Zygote, count: int, sound: int) -> None:
    """The files before and behind it are answered as if it had not been there."""
    async with running(zygote, count) as decoders:
        files = [SOUND] * sound
        files.insert(sound // 2, b"crash")
        outcomes = await asyncio.gather(*(decode(decoders, data) for data in files))
    error = outcomes.pop(sound // 2)
    assert isinstance(error, UndecodableImage)
    assert "crash" in error.detail
    assert all(map(is_sound, outcomes))


async def test_a_loop_is_ended_by_its_processor_time(zygote: Zygote) -> None:
    """The kernel's timer ends the process, and the answer names the limit."""
    async with running(zygote) as decoders:
        error = await decode(decoders, b"loop")
        assert is_sound(await decode(decoders, SOUND))
    assert isinstance(error, UndecodableImage)
    assert "2 seconds" in error.detail


async def test_nobody_waits_for_a_slow_file(zygote: Zygote) -> None:
    """It gives its place to the next file while it goes on. When nobody wants it any more, its process is ended."""
    async with running(zygote, slow_seconds=0.0) as decoders:
        hanging, future = submit(decoders, b"hang")
        assert is_sound(await decode(decoders, SOUND))
        assert not future.done()
        decoders.cancel(hanging)
        assert isinstance(await future, UndecodableImage)


async def test_a_cancelled_file_is_forgotten(zygote: Zygote) -> None:
    """One that waits is never decoded."""
    async with running(zygote) as decoders:
        _, first = submit(decoders, SOUND)
        waiting, future = submit(decoders, b"crash")
        decoders.cancel(waiting)
        assert is_sound(await first)
        assert is_sound(await decode(decoders, SOUND))
        assert not future.done()


async def test_a_file_is_freed_once(zygote: Zygote) -> None:
    """One that waits is freed when it is cancelled, and one that is being decoded when its process has ended."""
    freed: list[str] = []
    async with running(zygote) as decoders:
        being_decoded = decoders.submit(b"hang", lambda _: None, lambda: freed.append("being decoded"))
        waiting = decoders.submit(SOUND, lambda _: None, lambda: freed.append("waiting"))
        decoders.cancel(waiting)
        decoders.cancel(being_decoded)
        assert freed == ["waiting"]
    assert freed == ["waiting", "being decoded"]


async def test_memory_is_limited(zygote: Zygote) -> None:
    """A file that takes more than it may gets an error of its own."""
    async with running(zygote) as decoders:
        error = await decode(decoders, b"eat %d" % (FREE_BYTES + 2**24))
        assert is_sound(await decode(decoders, b"eat %d" % 2**24))
    assert isinstance(error, Overloaded | UndecodableImage)


async def test_a_costly_file_gets_its_memory(zygote: Zygote) -> None:
    """It is decoded once there is room, by a process that ends with it."""
    async with running(zygote) as decoders:
        assert is_sound(await decode(decoders, b"cost %d" % (FREE_BYTES + COSTLY_BYTES)))


async def test_a_wrong_estimate_is_mended(zygote: Zygote) -> None:
    """A file that runs out of the memory that it asked for may ask once more, for all there is."""
    async with running(zygote) as decoders:
        assert is_sound(await decode(decoders, b"twice %d" % (FREE_BYTES + 1)))
        assert decoders.granted_bytes == 0
        assert isinstance(await decode(decoders, b"again %d" % (FREE_BYTES + 1)), UndecodableImage)


async def test_costly_files_take_turns(zygote: Zygote) -> None:
    """Each of these alone takes all the memory for costly files. Other files do not wait for them."""
    async with running(zygote, count=2) as decoders:
        files = [b"cost %d" % (FREE_BYTES + COSTLY_BYTES)] * 4 + [SOUND] * 4
        most = 0

        def deliver(_: object) -> None:
            nonlocal most
            most = max(most, decoders.granted_bytes)

        others = [decoders.submit(data, deliver) for data in files]
        assert all(map(is_sound, await asyncio.gather(*(decode(decoders, data) for data in files))))
        assert len(others) == len(files)
        assert most <= COSTLY_BYTES
        assert decoders.granted_bytes == 0


async def test_a_file_that_can_never_have_its_memory_is_refused(zygote: Zygote) -> None:
    """The answer names the memory and the limit."""
    async with running(zygote) as decoders:
        error = await decode(decoders, b"cost %d" % (FREE_BYTES + COSTLY_BYTES + 1))
    assert isinstance(error, ImageTooLarge)
    assert str(FREE_BYTES + COSTLY_BYTES) in error.detail


@pytest.mark.parametrize("data", [b"lie", *(b"kind %d" % kind for kind in range(6))])
async def test_a_decoder_is_not_trusted(zygote: Zygote, data: bytes) -> None:
    """A reply that no decoder gives ends its process, and the file has an error."""
    async with running(zygote) as decoders:
        error = await decode(decoders, data)
        assert is_sound(await decode(decoders, SOUND))
    assert isinstance(error, UndecodableImage | Internal)


async def test_a_drawing_gets_its_heat_map(zygote: Zygote) -> None:
    """The map travels with the file. The reply is a PNG file, and an image's size is told with its pixels."""
    async with running(zygote) as decoders:
        drawn: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        decoders.submit_drawing(SOUND, np.array([[1, 2, 3]], np.uint8), drawn.set_result)
        assert await drawn == PNG_SIGNATURE + bytes([1, 2, 3])
        sized: asyncio.Future[SizedPixels] = asyncio.get_running_loop().create_future()
        decoders.submit_sized(SOUND, sized.set_result)
        outcome = await sized
        assert (outcome.width, outcome.height, is_sound(outcome.pixels)) == (5, 3, True)


@pytest.mark.parametrize("data", [b"lie", *(b"kind %d" % kind for kind in range(6))])
async def test_a_drawing_decoder_is_not_trusted_either(zygote: Zygote, data: bytes) -> None:
    """A reply to another work, or one that is no PNG file, is an error of the image."""
    async with running(zygote) as decoders:
        drawn: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        decoders.submit_drawing(data, np.zeros((1, 1), np.uint8), drawn.set_result)
        assert isinstance(await drawn, UndecodableImage | Internal)
        assert is_sound(await decode(decoders, SOUND))


async def test_a_drawing_takes_no_place_of_a_prediction(zygote: Zygote) -> None:
    """While one hangs in the only decoder, files are decoded beside it."""
    async with running(zygote) as decoders:
        drawn: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        job = decoders.submit_drawing(b"hang", np.zeros((1, 1), np.uint8), drawn.set_result)
        assert is_sound(await decode(decoders, SOUND))
        assert not drawn.done()
        decoders.cancel(job)
        assert isinstance(await drawn, UndecodableImage)


async def test_what_libraries_print_is_not_seen(zygote: Zygote, capfd: pytest.CaptureFixture[str]) -> None:
    """A file can make them print megabytes, for which nobody waits."""
    async with running(zygote) as decoders:
        assert is_sound(await decode(decoders, b"flood %d" % 2**24))
    assert capfd.readouterr() == ("", "")


async def test_a_decoder_that_dies_idle_is_replaced(zygote: Zygote) -> None:
    """The kernel may end it where the machine's memory is short. A file that it was just handed is tried once more."""
    async with running(zygote) as decoders:
        [idle] = decoders.pids
        os.kill(idle, 9)
        assert is_sound(await decode(decoders, SOUND))
        assert idle not in decoders.pids


async def test_a_lost_zygote_is_started_anew() -> None:
    """The next decoder that is needed comes from a new process."""
    zygote = Zygote("tests.fakes.odd_decoders")
    async with running(zygote) as decoders:
        assert zygote.pid is not None
        os.kill(zygote.pid, 9)
        assert isinstance(await decode(decoders, b"crash"), UndecodableImage)
        assert is_sound(await decode(decoders, SOUND))
    zygote.close()


async def test_without_processes_the_file_is_told(zygote: Zygote) -> None:
    """Where none can be started, the start fails with the reason."""
    broken = Zygote("tests.fakes.no_such_module")
    with pytest.raises(OSError, match="has ended"):
        await Decoders(broken, TASK, 1, Metrics()).start()
    broken.close()
