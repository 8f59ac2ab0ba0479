"""The sending half of a connection: answers that must be taken, and a close that lets the last one be read.

Owns the bounds on a client that does not read and on one that goes on sending, and noticing one that has gone.
"""

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import ClassVar

FIRST_PEER_CHECK_SECONDS, MAX_PEER_CHECK_SECONDS = 0.01, 1.0  # each interval is twice the one before it
ANSWER_START = b"HTTP/1.1 "  # of every answer, whatever its status


class BoundedTransport:
    """asyncio's transport, for one connection. The bounds are class attributes, so that a subclass can have others.

    - While bytes wait to be sent, the client must take at least `min_write_bytes` in each `write_seconds`. Otherwise
      the connection is aborted, also when it is closed already: asyncio's close waits for these bytes without a limit.
    - If a connection is closed while its client sends, the kernel replies with a reset, which can overtake the answer.
      While `may_send` says that the client may send, `close` therefore ends the sending half alone. What still comes is
      thrown away, for at most `linger_seconds` and `linger_bytes`.
    """

    write_seconds: ClassVar[float] = 10.0
    min_write_bytes: ClassVar[int] = 10 * 1024
    linger_seconds: ClassVar[float] = 5.0
    linger_bytes: ClassVar[int] = 2**20

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, may_send: Callable[[], bool]
    ) -> None:
        self._transport, self._loop, self._may_send = transport, loop, may_send
        self._written = self._taken = 0
        self._begun = self._lingering = False
        self._discardable = self.linger_bytes
        self._write_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._peer_timer: asyncio.TimerHandle | None = None

    def begin_answer(self) -> None:
        """Sends ANSWER_START, and leaves it out of the next write."""
        self.write(ANSWER_START)
        self._begun = True

    def write(self, data: bytes) -> None:
        """Sends, or buffers what cannot be sent yet."""
        if self._begun:
            data, self._begun = data.removeprefix(ANSWER_START), False
        self._written += len(data)
        self._transport.write(data)

    def watch_writes(self) -> None:
        """Begins to look whether the client takes what waits to be sent."""
        if self._write_timer is None and self._transport.get_write_buffer_size():
            self._taken = self._count_taken()
            self._write_timer = self._loop.call_later(self.write_seconds, self._check_writes)

    def _count_taken(self) -> int:
        return self._written - self._transport.get_write_buffer_size()

    def _check_writes(self) -> None:
        self._write_timer = None
        if self._transport.get_write_buffer_size() and self._count_taken() - self._taken < self.min_write_bytes:
            self.abort()
        else:
            self.watch_writes()

    def close(self) -> None:
        """Closes when all is sent, and lets a client that may send read it first."""
        if self._discardable < 0 or not self._may_send():
            self.end()
        elif not self.is_closing():
            self._lingering = True
            self._transport.write_eof()
            self._transport.resume_reading()
            self._linger_timer = self._loop.call_later(self.linger_seconds, self.abort)

    def end(self) -> None:
        """Closes when all is sent, whatever the client does."""
        self._transport.close()
        self.watch_writes()

    def discard(self, size: int) -> bool:
        """Counts bytes that came after the last request. False, and perhaps the end, when there are too many."""
        self._discardable -= size
        if self._discardable < 0 and self._lingering:
            self.abort()
        return self._discardable >= 0

    def abort(self) -> None:
        """Closes at once."""
        self.stop_timers()
        self._transport.abort()

    def stop_timers(self) -> None:
        """Must be called when the connection is lost."""
        for timer in (self._write_timer, self._linger_timer, self._peer_timer):
            if timer is not None:
                timer.cancel()
        self._write_timer = self._linger_timer = self._peer_timer = None

    def is_closing(self) -> bool:
        """Whether nothing more can be sent."""
        return self._lingering or self._transport.is_closing()

    def watch_peer(self, seconds: float = FIRST_PEER_CHECK_SECONDS) -> None:
        """Aborts when the client's kernel has replied with a reset; looks for it now and then.

        After an end of file the event loop no longer looks for a reset.
        """
        if self.is_closing():
            return
        connection = self._transport.get_extra_info("socket")
        if connection is not None and connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0:
            self.abort()
            return
        longer = min(2 * seconds, MAX_PEER_CHECK_SECONDS)
        self._peer_timer = self._loop.call_later(seconds, partial(self.watch_peer, longer))
