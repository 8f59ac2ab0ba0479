"""An inference request on its way through the service, whatever its protocol.

Owns what all such requests have in common: the model that answers, the deadline, the capacity check, the memory of the
body, and what happens when the client hangs up. A route adds how its body is read and how its answer is written.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from starlette.requests import ClientDisconnect, Request

from app.errors import DeadlineExceeded, ServiceError
from app.http.parameters import read_timeout
from app.http.routing import service_of
from app.memory import Reservation, Share
from app.settings import Settings

if TYPE_CHECKING:
    from app.serving.entry import NormalisedPixels
    from app.serving.pipeline import Classification, LoadedModel, Pipeline

LATE = "The request's time was up before its body had arrived."
T = TypeVar("T")


@dataclass(slots=True)
class Inference:
    """One request. `deadline` is in `time.monotonic` seconds."""

    request: Request
    settings: Settings
    pipeline: "Pipeline"
    reservation: Reservation
    deadline: float

    @property
    def model(self) -> "LoadedModel":
        """The model that answers the request, also where a reload replaces it meanwhile."""
        return self.pipeline.model

    def limit_time(self, seconds: float) -> None:
        """Makes the request end that many seconds after its start, if it would end later."""
        self.deadline = min(self.deadline, self.request.state.started + seconds)

    @asynccontextmanager
    async def reading(self, *, images: bool = True) -> AsyncIterator[None]:
        """The block reads the body. Raises DeadlineExceeded when the deadline passes in it.

        Raises QueueFull and NotReady before the block where images cannot be taken: their body need not be read.
        """
        if images:
            self.pipeline.queue.check_capacity()
        try:
            async with asyncio.timeout(self.deadline - time.monotonic()):
                yield
        except TimeoutError as error:
            raise DeadlineExceeded(LATE) from error

    async def classify(
        self,
        images: Sequence[bytes | ServiceError],
        coverage: float | None = None,
        shares: Sequence[Share] | None = None,
    ) -> "list[Classification | ServiceError]":
        """As `Pipeline.classify`. Raises ClientDisconnect when the client hangs up; the body must have been read.

        Without `shares` the images are copies of the body, which nobody keeps: the reservation shrinks to them.
        """
        if shares is None:
            shares = self.reservation.split(0 if isinstance(image, ServiceError) else len(image) for image in images)
        return await self._unless_disconnected(self.pipeline.classify(images, self.deadline, coverage, shares))

    async def classify_tensors(self, tensors: "NormalisedPixels") -> "list[Classification | ServiceError]":
        """As `Pipeline.classify_tensors`. Raises ClientDisconnect when the client hangs up."""
        return await self._unless_disconnected(self.pipeline.classify_tensors(tensors, self.deadline))

    async def _unless_disconnected(self, outcomes: Awaitable[T]) -> T:
        async with _cancel_on_disconnect(self.request):
            return await outcomes

    def describe(self, outcomes: "Sequence[Classification | ServiceError]") -> dict[str, str]:
        """The headers of an answer with at least one classification. The request's log line gets the same times."""
        times = times_in_ms(outcomes, self.request.state.started)
        version = self.model.version
        self.request.state.log = {"images": len(outcomes), "version": version, **times}
        return {"X-Model-Version": version, "Server-Timing": server_timing(times)}


@contextmanager
def begin_inference(request: Request) -> Iterator[Inference]:
    """Holds the current model and the memory of the body until the end of the block.

    Raises InvalidParameter for an `X-Request-Timeout` that is out of its range, and NotReady.
    """
    service = service_of(request)
    seconds = read_timeout(request.headers.get("x-request-timeout"), service.settings.request_timeout)
    client = request.client.host if request.client is not None else None  # None on a Unix socket
    with service.pipeline() as pipeline, service.body_memory.reserve(client) as reservation:
        yield Inference(request, service.settings, pipeline, reservation, request.state.started + seconds)


def raise_if_all_failed(outcomes: "Sequence[Classification | ServiceError]") -> None:
    """One answer for all images is an answer for the request: the first one's error."""
    first = outcomes[0]
    if isinstance(first, ServiceError) and all(isinstance(outcome, ServiceError) for outcome in outcomes):
        raise first


def raise_if_any_failed(outcomes: "Sequence[Classification | ServiceError]") -> "list[Classification]":
    """For protocols that have one answer for all images: raises the first error, or returns the classifications."""
    for outcome in outcomes:
        if isinstance(outcome, ServiceError):
            raise outcome
    return [outcome for outcome in outcomes if not isinstance(outcome, ServiceError)]


def times_in_ms(outcomes: "Sequence[Classification | ServiceError]", started: float) -> dict[str, float]:
    """The slowest image's steps, and the whole request so far."""
    done = [outcome.timed for outcome in outcomes if not isinstance(outcome, ServiceError)]
    seconds = {
        "decode": max(answer.decode_seconds for answer in done),
        "queue": max(answer.queue_seconds for answer in done),
        "model": max(answer.model_seconds for answer in done),
        "total": time.monotonic() - started,
    }
    return {name: round(1000 * value, 3) for name, value in seconds.items()}


def server_timing(times: dict[str, float]) -> str:
    """The `Server-Timing` header of the W3C."""
    return ", ".join(f"{name};dur={ms}" for name, ms in times.items())


@asynccontextmanager
async def _cancel_on_disconnect(request: Request) -> AsyncIterator[None]:
    """Cancels what the block awaits when the client hangs up; then raises ClientDisconnect.

    The request's body must have been read: what is received after it can only be the disconnect.
    """
    task = asyncio.current_task()
    assert task is not None
    watch = asyncio.create_task(_disconnected(request))
    watch.add_done_callback(lambda done: None if done.cancelled() else task.cancel())
    try:
        yield
    except asyncio.CancelledError:
        if watch.done() and not watch.cancelled():
            task.uncancel()
            raise ClientDisconnect from None
        raise
    finally:
        watch.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
