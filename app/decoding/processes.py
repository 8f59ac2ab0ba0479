"""The decoder processes: which file is decoded next, where, and what happens when a process fails.

Owns the order of the files, and the limits of how many decoders and how much memory they take together.
"""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import numpy as np

from app.decoding.connection import Decoder, Deliver, Job, Outcome
from app.decoding.decoder import cpu_seconds
from app.decoding.messages import (
    COST,
    COSTLY,
    DECODE,
    DECODE_SIZED,
    DRAW,
    ERROR,
    FREE_BYTES,
    MAX_ERROR_BYTES,
    PICTURE,
    PIXELS,
    PNG_SIGNATURE,
    SIZE,
    SIZED_PIXELS,
    SizedPixels,
    Task,
    largest_reply,
    parse_error,
)
from app.decoding.zygote import Zygote
from app.errors import ImageTooLarge, Overloaded, UndecodableImage
from app.metrics import Metrics
from models.preprocess import Pixels

log = logging.getLogger("vggserve.decoding")

# A file that takes longer gives its place to the next one, and goes on beside it at a lower priority.
SLOW_SECONDS = 0.1
NICENESS = 10


class Decoders:
    """Decodes files in up to `count` processes at once, in the order of their arrival. Used on the event loop alone.

    A file that needs more memory than a decoder has free waits until all costly files together leave room for it.
    Costly and slow files have decoders of their own, twice `count`, so that other files do not wait for them. A decoder
    that had one of them is replaced. `slow_seconds` is the time after which a file counts as slow.
    """

    def __init__(
        self, zygote: Zygote, task: Task, count: int, metrics: Metrics, slow_seconds: float = SLOW_SECONDS
    ) -> None:
        self.costly_bytes = task.costly_bytes
        self._zygote, self._task, self._count, self._metrics = zygote, task, count, metrics
        self._slow_seconds = slow_seconds
        self._waiting, self._costly = deque[Job](), deque[Job]()
        self._all, self._idle = set[Decoder](), list[Decoder]()
        self._fast, self._slow = set[Decoder](), set[Decoder]()
        self._has_lost = asyncio.Event()
        self._starting = set[asyncio.Task[None]]()
        self._reaping = set[asyncio.Task[None]]()
        self._granted = 0
        self._is_closed = False

    @property
    def pids(self) -> set[int]:
        """The process ids of the decoders."""
        return {decoder.pid for decoder in self._all}

    async def start(self) -> None:
        """Starts `count` decoders. Raises OSError."""
        for decoder in [await self._fork() for _ in range(self._count)]:
            self._idle.append(decoder)

    @property
    def granted_bytes(self) -> int:
        """The memory that costly files may take at the moment, in bytes."""
        return self._granted

    @property
    def busy(self) -> int:
        """How many files are being decoded."""
        return len(self._fast) + len(self._slow)

    def submit(self, data: bytes, deliver: Deliver, freed: Callable[[], None] | None = None) -> Job:
        """Calls `deliver` with the file's (S, S, C) uint8 pixels or with what is wrong with it.

        Calls `freed` when no decoder has the file's bytes any more, which may be later than the request's end.
        """
        return self._submit(self._make_job(DECODE, data, deliver, freed), self._waiting)

    def submit_sized(self, data: bytes, deliver: Deliver, freed: Callable[[], None] | None = None) -> Job:
        """The same, but `deliver` gets SizedPixels."""
        return self._submit(self._make_job(DECODE_SIZED, data, deliver, freed), self._waiting)

    def submit_drawing(
        self, data: bytes, heat: Pixels, deliver: Deliver, freed: Callable[[], None] | None = None
    ) -> Job:
        """Calls `deliver` with a PNG file's bytes: the image with `heat`, (rows, columns) uint8, over it; or an error.

        Drawing is costly by its nature: it never takes the place of a file that is decoded for a prediction, and runs
        at a lower priority.
        """
        job = self._make_job(DRAW, data, deliver, freed)
        job.heat = heat
        return self._submit(job, self._costly)

    def _make_job(self, work: int, data: bytes, deliver: Deliver, freed: Callable[[], None] | None) -> Job:
        return Job(work, data, deliver, freed, largest_reply(work, self._task.preprocessing))

    def _submit(self, job: Job, jobs: deque[Job]) -> Job:
        jobs.append(job)
        self._schedule()
        return job

    def cancel(self, job: Job) -> None:
        """Frees what the job holds. `deliver` may still be called."""
        job.is_cancelled = True
        for jobs in (self._waiting, self._costly):
            with suppress(ValueError):
                jobs.remove(job)
        if job.decoder is None:
            job.free()
        elif job.decoder in self._slow:
            job.decoder.end()

    async def close(self) -> None:
        """Ends the processes. Jobs that wait are forgotten."""
        self._is_closed = True
        for job in [*self._waiting, *self._costly]:
            self.cancel(job)
        for decoder in self._all:
            decoder.end()
        while self._all:
            self._has_lost.clear()
            await self._has_lost.wait()
        while tasks := self._starting | self._reaping:
            await asyncio.wait(tasks)
            await asyncio.sleep(0)  # lets the tasks leave their sets

    def _schedule(self) -> None:
        while self._waiting and len(self._fast) < self._count and self._idle:
            self._run(self._waiting.popleft(), self._fast)
        while self._costly and self._has_room(self._costly[0]) and self._idle:
            self._run(self._costly.popleft(), self._slow)
        wanted = min(len(self._waiting), self._count - len(self._fast))
        wanted += bool(self._costly) and self._has_room(self._costly[0])
        room = 3 * self._count - len(self._all) - len(self._starting)
        for _ in range(min(wanted - len(self._starting), room)):
            _keep(self._starting, self._add())

    def _has_room(self, job: Job) -> bool:
        return len(self._slow) < self._count and self._granted + job.cost <= self.costly_bytes

    def _run(self, job: Job, lane: set[Decoder]) -> None:
        decoder = self._idle.pop()
        lane.add(decoder)
        self._granted += job.cost
        job.decoder = decoder
        if job.work == DRAW:
            _lower_priority(decoder)
        decoder.run(job)

    async def _add(self) -> None:
        try:
            self._idle.append(await self._fork())
        except OSError as error:
            log.error("no decoder process can be started: %s", error)  # noqa: TRY400
            if not self._all:  # nobody else takes the files that wait
                jobs = [*self._waiting, *self._costly]
                self._waiting.clear()
                self._costly.clear()
                for job in jobs:
                    job.free()
                    job.deliver(Overloaded("The server cannot start a process to decode the image."))
        else:
            self._schedule()

    async def _fork(self) -> Decoder:
        loop = asyncio.get_running_loop()
        pid, connection = await loop.run_in_executor(None, self._zygote.fork, self._task)
        connection.setblocking(False)
        _, decoder = await loop.create_unix_connection(lambda: self._make_decoder(pid), sock=connection)
        self._all.add(decoder)
        if self._is_closed:
            decoder.end()
        return decoder

    def _make_decoder(self, pid: int) -> Decoder:
        return Decoder(self, pid, self._slow_seconds)

    def move_aside(self, decoder: Decoder) -> None:
        """Gives the place of a slow file's decoder to the next file, or ends it if nobody waits for the file."""
        assert decoder.job is not None
        if decoder.job.is_cancelled:
            decoder.end()
        elif len(self._slow) < 2 * self._count:
            self._fast.discard(decoder)
            self._slow.add(decoder)
            _lower_priority(decoder)
            self._schedule()

    def finish(self, decoder: Decoder, job: Job, kind: int, warnings: int, payload: bytes) -> None:
        """Takes a decoder's reply. Raises ValueError if it is none that a decoder gives."""
        self._metrics.image_warnings.inc(warnings)
        outcome = self._read(job, kind, payload)
        if kind in (PIXELS, SIZED_PIXELS):
            self._metrics.decode_seconds.observe(decoder.seconds)
        was_slow = decoder in self._slow
        self._release(decoder, job)
        if was_slow:
            decoder.end()
        else:
            self._idle.append(decoder)
        if isinstance(outcome, int):
            job.cost = outcome
            self._wait_for_memory(job)
        else:
            job.free()
            job.deliver(outcome)
        self._schedule()

    def _wait_for_memory(self, job: Job) -> None:
        if job.is_cancelled:
            job.free()
        else:
            self._costly.append(job)

    def _read(self, job: Job, kind: int, payload: bytes) -> Outcome | int:
        """What was ordered, the error, or the bytes of memory for which the job has to wait."""
        if (job.work, kind) == (DECODE, PIXELS):
            return self._read_pixels(payload)
        if (job.work, kind) == (DECODE_SIZED, SIZED_PIXELS) and len(payload) >= SIZE.size:
            return SizedPixels(self._read_pixels(payload[SIZE.size :]), *SIZE.unpack_from(payload))
        if (job.work, kind) == (DRAW, PICTURE) and payload.startswith(PNG_SIGNATURE):
            return payload
        if kind == ERROR and len(payload) <= MAX_ERROR_BYTES:
            return parse_error(payload)
        if kind != COSTLY or len(payload) != COST.size:
            raise ValueError(f"kind is {kind}, with {len(payload)} bytes")
        needed = int(COST.unpack(payload)[0])
        if job.cost and not FREE_BYTES + job.cost < needed == self._task.largest_cost:
            raise ValueError(f"the cost is {needed} bytes after {job.cost} were granted")
        if needed > (largest := self._task.largest_cost):
            return ImageTooLarge(f"Decoding the image takes {needed} bytes of memory, more than the allowed {largest}.")
        return needed - FREE_BYTES

    def _read_pixels(self, payload: bytes) -> Pixels:
        preprocessing = self._task.preprocessing
        shape = (preprocessing.size, preprocessing.size, preprocessing.channels)
        return np.frombuffer(payload, np.uint8).reshape(shape)

    def lose(self, decoder: Decoder) -> None:
        """Replaces a decoder whose process has ended or is to end. Answers the file that it had."""
        if (job := decoder.job) is not None:
            self._release(decoder, job)
            self._answer_lost(job, is_slow=decoder.seconds >= cpu_seconds(job.cost))
        elif decoder in self._idle:
            self._idle.remove(decoder)
            if not self._is_closed:
                self._metrics.decoders_restarted.labels("crash").inc()
        self._all.discard(decoder)
        self._has_lost.set()
        _keep(self._reaping, self._reap(decoder.pid))
        if not self._is_closed:
            self._schedule()

    def _answer_lost(self, job: Job, *, is_slow: bool) -> None:
        """A file whose decoder crashed is tried once more: the kernel may have ended it for another process's sake."""
        if not job.is_cancelled:
            self._metrics.decoders_restarted.labels("time" if is_slow else "crash").inc()
            if not is_slow and not job.is_second_try and not self._is_closed:
                job.is_second_try = True
                (self._costly if job.cost or job.work == DRAW else self._waiting).appendleft(job)
                return
        job.free()
        job.deliver(UndecodableImage(_describe_loss(job, is_slow=is_slow)))

    async def _reap(self, pid: int) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self._zygote.reap, pid)

    def _release(self, decoder: Decoder, job: Job) -> None:
        self._fast.discard(decoder)
        self._slow.discard(decoder)
        self._granted -= job.cost
        job.decoder = decoder.job = None


def _describe_loss(job: Job, *, is_slow: bool) -> str:
    if is_slow:
        return f"Decoding the image took more than the allowed {cpu_seconds(job.cost):.0f} seconds of processor time."
    return "The image made its decoder crash."


def _lower_priority(decoder: Decoder) -> None:
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, decoder.pid, NICENESS)


def _keep(tasks: set[asyncio.Task[None]], coroutine: Coroutine[Any, Any, None]) -> None:
    """Starts a task, which asyncio itself would not keep from being collected."""
    task = asyncio.create_task(coroutine)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
