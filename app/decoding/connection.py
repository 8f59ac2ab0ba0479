"""The server's side of one decoder process: the connection, and the file that the process decodes at the moment."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np

from app.decoding.messages import REPLY, Order, SizedPixels
from app.errors import ServiceError
from models.preprocess import Pixels

log = logging.getLogger("vggserve.decoding")

Outcome = Pixels | SizedPixels | bytes | ServiceError  # the first three by the work: DECODE, DECODE_SIZED, DRAW
Deliver = Callable[[Any], None]


@dataclass(slots=True, eq=False)
class Job:
    """One file, and what is done with it. `cost` is 0, or the memory that a decoder has found it to need, in bytes.

    A reply may have `largest_reply` bytes of payload. `freed` is called once, when no decoder has the file's bytes any
    more.
    """

    work: int
    data: bytes
    deliver: Deliver
    freed: Callable[[], None] | None
    largest_reply: int
    heat: Pixels = field(default_factory=lambda: np.zeros((0, 0), np.uint8))
    cost: int = 0
    decoder: "Decoder | None" = None
    is_cancelled: bool = False
    is_second_try: bool = False

    def free(self) -> None:
        """Lets go of the file's bytes. The job itself may live on in a cycle with its request's answer."""
        self.data = b""
        freed, self.freed = self.freed, None
        if freed is not None:
            freed()


class Owner(Protocol):
    """What a decoder tells about itself."""

    def move_aside(self, decoder: "Decoder") -> None:
        """The file has taken `slow_seconds`."""

    def finish(self, decoder: "Decoder", job: Job, kind: int, warnings: int, payload: bytes) -> None:
        """A reply has arrived. Raises ValueError if it is none that a decoder gives."""

    def lose(self, decoder: "Decoder") -> None:
        """The process has ended, or is to end."""


class Decoder(asyncio.Protocol):
    """A process that decodes one file at a time."""

    def __init__(self, owner: Owner, pid: int, slow_seconds: float) -> None:
        self.pid = pid
        self.job: Job | None = None
        self._owner, self._slow_seconds = owner, slow_seconds
        self._received = bytearray()
        self._started = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def seconds(self) -> float:
        """How long the current file has taken so far."""
        return time.monotonic() - self._started

    def run(self, job: Job) -> None:
        """Sends a file to the process, which must have none."""
        self.job, self._started = job, time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(self._slow_seconds, self._owner.move_aside, self)
        self._transport.writelines(Order(job.work, job.data, job.cost, job.heat).to_pieces())

    def end(self) -> None:
        """Ends the connection. `lose` follows."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Hands on a reply that is complete. A process that sends anything else is ended."""
        self._received += data
        if len(self._received) < REPLY.size:
            return
        kind, warnings, size = REPLY.unpack_from(self._received)
        if (job := self.job) is None or size > job.largest_reply:
            self.end()
        elif len(self._received) >= REPLY.size + size:
            payload = bytes(self._received[REPLY.size :])
            self._received.clear()
            self._stop_timer()
            try:
                self._owner.finish(self, job, kind, warnings, payload)
            except ValueError:
                log.exception("a decoder process sent what is no reply")
                self.end()

    def connection_lost(self, error: Exception | None) -> None:
        self._stop_timer()
        self._owner.lose(self)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
