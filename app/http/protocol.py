"""The HTTP/1.1 connection: uvicorn's protocol on httptools, with bounds.

It differs from uvicorn's in these points:

- A head (request line and headers), and a chunked body's framing or trailers, of more than `max_head_bytes` get 431.
  So does a head that is not complete `head_seconds` after its first byte. Uvicorn has no limit: httptools gathers an
  unfinished header in memory, with a cost that grows with the square of its length.
- At most `max_waiting` requests wait on a connection. With more, those that wait are answered and the connection
  closes. Nothing is read while requests wait. Uvicorn continues to read.
- `Upgrade` is ignored (RFC 9110, section 7.8). httptools ends a message at the head that asks for an upgrade, and would
  parse the body as a second request. Here a fresh parser gets the same head without the `Upgrade` header.
- A request that cannot be parsed is given to the application with the error in `scope["state"]["refusal"]`. The
  application answers, logs and counts it like any other error. Uvicorn writes plain text, also in the middle of
  another answer.
- Trailers are dropped. Uvicorn appends them to the headers of a request that is already running.
- A client that closes its sending half after its request gets the answer. A client that closes the whole connection
  sends the same packet. To tell them apart, the answer's first bytes, which are known, are sent at once: the kernel of
  a client that has gone replies with a reset, and its request is cancelled.
- A request that is answered before its end must end within `head_seconds`, or the connection closes.
- A connection without any request ends after the keep-alive timeout, and connections above the limit of open files
  minus `reserved_files` are closed at once.
"""

import asyncio
import socket
from enum import Enum
from functools import partial
from typing import Any, ClassVar, cast

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.errors import BadRequest, HeadersTooLarge, ServiceError
from app.runtime import open_file_limit

TOO_LONG = "The request's head, or what frames its body, has more than the allowed {} bytes."
TOO_SLOW = "The request's head was not complete after {:g} seconds."
NOT_HTTP = "The request is not valid HTTP/1.1: {}."


class _State(Enum):
    IDLE = 0
    HEAD = 1
    BODY = 2


ANSWER_START = b"HTTP/1.1 "  # of every answer, whatever its status
FIRST_PEER_CHECK_SECONDS, MAX_PEER_CHECK_SECONDS = 0.01, 1.0  # each interval is twice the one before it


class _StartedTransport:
    """A transport on which ANSWER_START has been sent: leaves it out of the first write."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._started = True

    def write(self, data: bytes) -> None:
        self._transport.write(data.removeprefix(ANSWER_START) if self._started else data)
        self._started = False

    def close(self) -> None:
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()


class _TooManyWaiting(Exception):  # raised through the parser
    pass


class _Flow(FlowControl):
    """Does not resume reading while requests wait: the one that runs has its whole body."""

    def __init__(self, transport: asyncio.Transport, waiting: Any) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if not self._waiting:
            super().resume_reading()


class BoundedProtocol(HttpToolsProtocol):
    """One connection. The bounds are class attributes, so that a subclass can have others."""

    max_head_bytes: ClassVar[int] = 64 * 1024
    head_seconds: ClassVar[float] = 10.0
    max_waiting: ClassVar[int] = 16
    reserved_files: ClassVar[int] = 64  # for the checkpoint, the log, listening sockets, libraries

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._state = _State.IDLE
        self._head_bytes = 0  # of complete lines
        self._quiet_bytes = 0  # since the parser last ended a head, a message or a piece of a body
        self._upgrading = False
        self._refused = False
        self._timer: asyncio.TimerHandle | None = None
        self._running: RequestResponseCycle | None = None
        self._half_closed = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Closes the connection where there are too many."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        limit = open_file_limit()
        if limit is not None and len(self.connections) > max(1, limit - self.reserved_files):
            self._refused = True
            transport.close()
            return
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """Also notifies the request that is running while others wait."""
        self._stop_timer()
        self._unset_keepalive_if_required()
        self._refused = True
        self.pipeline.clear()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keeps the connection open for the answers to whole requests."""
        if not (self.pipeline or self._is_answering()):
            return False
        if not self._refused:
            if self._state is _State.BODY:
                return False
            self._refused = True
            self.cycle.keep_alive = False
        self._half_closed = True
        if self._running is not None and self._is_answering():
            self._begin_answer(self._running)
        self._check_peer(FIRST_PEER_CHECK_SECONDS)
        return True

    def data_received(self, data: bytes) -> None:
        """Parses in pieces of `max_head_bytes` at most, so that a bound is exceeded by one piece at most."""
        self._unset_keepalive_if_required()
        size = self.max_head_bytes
        if len(data) <= size:
            self._feed(data)
        else:
            for start in range(0, len(data), size):
                self._feed(data[start : start + size])

    def _feed(self, data: bytes) -> None:
        if self._refused:
            return
        self._quiet_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, _TooManyWaiting):
                self._refused = True
                self.cycle.keep_alive = False
            else:
                self._refuse(cause if isinstance(cause, ServiceError) else BadRequest(NOT_HTTP.format(error)))
            return
        if self._quiet_bytes > self.max_head_bytes:
            self._refuse(HeadersTooLarge(TOO_LONG.format(self.max_head_bytes)))
        elif self._timer is None and (
            self._state is _State.HEAD or (self._state is _State.IDLE and self._quiet_bytes > 0)
        ):
            self._start_timer()

    def on_message_begin(self) -> None:
        """The parser has seen the first byte of a request."""
        super().on_message_begin()
        self._state = _State.HEAD
        self._head_bytes = self._quiet_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the request's target."""
        self._count_head(len(url))
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which is only counted."""
        self._count_head(len(name) + len(value) + 4)
        if self._state is _State.HEAD:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Starts the request, or lets it wait for those before it."""
        if self.parser.should_upgrade():
            self._upgrading = True
            return
        self._stop_timer()
        if self.parser.get_http_version() not in ("1.1", "1.0"):
            raise BadRequest(NOT_HTTP.format("unknown version"))
        if len(self.pipeline) >= self.max_waiting:
            raise _TooManyWaiting
        super().on_headers_complete()
        self._state = _State.BODY
        self._head_bytes = self._quiet_bytes = 0

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._quiet_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request has come to its end."""
        if self._upgrading:
            return
        self._stop_timer()
        self._state = _State.IDLE
        self._quiet_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Starts the next request. A request that is answered too early has some seconds to end."""
        super().on_response_complete()
        if self._state is _State.BODY and self.cycle.response_complete and not self.transport.is_closing():
            self._start_timer()

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self.max_head_bytes:
            raise HeadersTooLarge(TOO_LONG.format(self.max_head_bytes))

    def _ignore_upgrade(self, rest: bytes) -> None:
        self._upgrading = False
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(BadRequest(NOT_HTTP.format("CONNECT is not supported")))
            return
        version = self.parser.get_http_version().encode()
        lines = [b"%s: %s\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        head = b"%s %s HTTP/%s\r\n%s\r\n" % (method, self.url, version, b"".join(lines))
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed(head)
        if rest:
            self._feed(rest)

    def _is_answering(self) -> bool:
        return self._running is not None and not (self._running.response_complete or self._running.disconnected)

    def _begin_answer(self, cycle: RequestResponseCycle) -> None:
        """Sends the bytes that every answer begins with, to which the kernel of a client that has gone replies."""
        if not cycle.response_started:
            self.transport.write(ANSWER_START)
            cycle.transport = cast(asyncio.Transport, _StartedTransport(self.transport))

    def _check_peer(self, seconds: float) -> None:
        """Looks for that reply now and then. After an end of file the event loop no longer looks for a reset."""
        self._stop_timer()
        if self.transport.is_closing():
            return
        if self._peer_has_gone():
            self.transport.abort()
            return
        longer = min(2 * seconds, MAX_PEER_CHECK_SECONDS)
        self._timer = self.loop.call_later(seconds, partial(self._check_peer, longer))

    def _peer_has_gone(self) -> bool:
        connection = self.transport.get_extra_info("socket")
        return connection is not None and connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        if self._half_closed:
            self._begin_answer(cycle)
        super()._start_asgi_task(cycle, app)

    def _refuse(self, error: ServiceError) -> None:
        """Answers with `error` in its turn, as the last answer of this connection."""
        self._refused = True
        self._stop_timer()
        if self._state is _State.BODY:  # the request at fault has been handed over already
            if self.pipeline:
                self.pipeline.popleft()
            elif self.cycle.response_started:
                self.transport.close()
                return
            else:
                self.cycle.disconnected = True
                self.cycle.message_event.set()
        refusal = RequestResponseCycle(
            scope=cast(Any, self._refused_scope(error)),
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=False,
            on_response=self.on_response_complete,
        )
        refusal.more_body = False
        refusal.message_event.set()
        answering, self.cycle, self._state = self._is_answering(), refusal, _State.IDLE
        if answering:
            self.pipeline.appendleft((refusal, self.app))
        else:
            self._start_asgi_task(refusal, self.app)

    def _refused_scope(self, error: ServiceError) -> dict[str, Any]:
        return {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": self.root_path,
            "method": "GET",
            "path": "",
            "raw_path": b"",
            "query_string": b"",
            "headers": [],
            "state": {**self.app_state, "refusal": error},
        }

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(self.head_seconds, self._on_late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_late(self) -> None:
        self._timer = None
        if self.flow.read_paused:
            self._start_timer()  # the client may have sent the rest
        elif self._state is _State.BODY:
            self.transport.close()
        else:
            self._refuse(HeadersTooLarge(TOO_SLOW.format(self.head_seconds)))
