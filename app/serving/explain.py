"""Explanations: which part of an image speaks for a label.

Owns how many explanations are admitted, and the steps of one: decode, wait, compute, draw.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from app.decoding.connection import Job
from app.decoding.messages import SizedPixels
from app.decoding.processes import Decoders
from app.errors import DeadlineExceeded, Internal, QueueFull, ServiceError
from app.memory import Share
from app.serving.heat_maps import HeatMapThread
from app.serving.service_rate import ServiceRate
from models.grad_cam import Explanation
from models.preprocess import Pixels

log = logging.getLogger("vggserve.explain")

CAPACITY = 4  # explanations that are admitted, whatever their step
LATE = "The request's time was up before its image was explained."
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TimedExplanation:
    """One image's explanation, the width and height of the upright image, and how many seconds each step took.

    `picture` is a PNG file's bytes, where one was asked for. `decode_seconds` includes the time of drawing it.
    """

    explanation: Explanation
    width: int
    height: int
    picture: bytes | None
    decode_seconds: float
    queue_seconds: float
    model_seconds: float


class Explainer:
    """Explains images one at a time. Used on the event loop alone.

    Up to `capacity` explanations are admitted and all others are refused, so their decoding is bounded too.
    """

    def __init__(self, thread: HeatMapThread, decoders: Decoders, capacity: int = CAPACITY) -> None:
        self._thread, self._decoders, self._capacity = thread, decoders, capacity
        self._rate = ServiceRate()
        self._admitted = 0
        self._pending = set[asyncio.Future[Any]]()

    @property
    def depth(self) -> int:
        """Explanations that are admitted and have no answer yet."""
        return self._admitted

    def check_capacity(self) -> None:
        """Raises QueueFull where `explain` would."""
        if self._admitted >= self._capacity:
            raise QueueFull(
                f"The server works on {self._capacity} explanations and has no room for one more.",
                retry_after=self._rate.retry_after(self._admitted),
            )

    def fail_requests(self, error: ServiceError) -> None:
        """Answers every explanation that has no answer yet."""
        for future in self._pending:
            _settle(future, error)

    async def explain(
        self, data: bytes, index: int | None, deadline: float, share: Share, *, is_drawn: bool
    ) -> TimedExplanation:
        """Explains the label `index` of an image file, by default its most probable label.

        `deadline` is in `time.monotonic` seconds. The share of the bodies' memory stays reserved until no decoder has
        the file any more. Raises QueueFull, DeadlineExceeded, Internal, and the errors of decoding.
        """
        with self._admit():
            async with _fail_after(deadline):
                started = time.monotonic()
                image = await self._decode(data, share)
                decoded = time.monotonic()
                explanation, model_seconds = await self._compute(image.pixels, index)
                computed = time.monotonic()
                picture = await self._draw(data, explanation, share) if is_drawn else None
                ended = time.monotonic()
            self._rate.observe(1, model_seconds + ended - computed, 1)
        decode_seconds = decoded - started + ended - computed
        queue_seconds = max(0.0, computed - decoded - model_seconds)
        return TimedExplanation(
            explanation, image.width, image.height, picture, decode_seconds, queue_seconds, model_seconds
        )

    @contextmanager
    def _admit(self) -> Iterator[None]:
        self.check_capacity()
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1

    async def _decode(self, data: bytes, share: Share) -> SizedPixels:
        def submit(deliver: Callable[[SizedPixels | ServiceError], None]) -> Job:
            share.hold()
            return self._decoders.submit_sized(data, deliver, share.release)

        return await self._await_decoder(submit)

    async def _draw(self, data: bytes, explanation: Explanation, share: Share) -> bytes:
        heat: Pixels = (255 * explanation.heat_map).round().astype(np.uint8)

        def submit(deliver: Callable[[bytes | ServiceError], None]) -> Job:
            share.hold()
            return self._decoders.submit_drawing(data, heat, deliver, share.release)

        return await self._await_decoder(submit)

    async def _await_decoder(self, submit: Callable[[Callable[[T | ServiceError], None]], Job]) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        job = submit(lambda outcome: _settle(future, outcome))
        try:
            return await self._await(future)
        finally:
            if not future.done() or future.cancelled():
                self._decoders.cancel(job)

    async def _compute(self, pixels: Pixels, index: int | None) -> tuple[Explanation, float]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[tuple[Explanation, float]] = loop.create_future()
        computing = self._thread.submit(pixels, index)
        computing.add_done_callback(lambda done: loop.call_soon_threadsafe(_settle, future, _outcome(done)))
        try:
            return await self._await(future)
        finally:
            computing.cancel()  # does nothing once the thread has begun

    async def _await(self, future: "asyncio.Future[T]") -> T:
        self._pending.add(future)
        try:
            return await future
        finally:
            self._pending.discard(future)


def _outcome(done: "Future[tuple[Explanation, float]]") -> tuple[Explanation, float] | ServiceError:
    if done.cancelled():
        return Internal()
    error = done.exception()
    if error is None:
        return done.result()
    log.error("an image could not be explained", exc_info=error)
    return Internal()


def _settle(future: "asyncio.Future[T]", outcome: T | ServiceError) -> None:
    """Passes over a future that was cancelled because its client has gone, or that was failed at the end."""
    if future.done():
        return
    if isinstance(outcome, ServiceError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


@asynccontextmanager
async def _fail_after(deadline: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            yield
    except TimeoutError as error:
        raise DeadlineExceeded(LATE) from error
