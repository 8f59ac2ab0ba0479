"""The HTTP/1.1 connection: uvicorn's protocol on httptools, with bounds.

It differs from uvicorn's in these points:

- A head (request line and headers), and a chunked body's framing or trailers, of more than `max_head_bytes` get 431.
  So does a head that is not complete `head_seconds` after its first byte. The bound is exact, because the parser gets
  whole lines alone: an unfinished line is kept here. Uvicorn has no limit: httptools gathers an unfinished header in
  memory, with a cost that grows with the square of its length.
- At most `max_waiting` requests wait on a connection. With more, those that wait are answered and the connection
  closes. Nothing is read while requests wait. Uvicorn continues to read.
- Heads are checked by `framing`, where the parser is lenient. `Upgrade` is ignored. Trailers are dropped.
- A request whose head cannot be parsed is given to the application with the error in `scope["state"]["refusal"]`. If
  the body's framing breaks, the request's own `receive` raises the error. The application answers, logs and counts
  either like any other error. Uvicorn writes plain text, also in the middle of another answer.
- Nothing is parsed behind the last request: the one at fault, or one with `Connection: close`.
- A client that closes its sending half after its request gets the answer. A client that closes the whole connection
  sends the same packet. To tell them apart, the answer's first bytes, which are known, are sent at once: the kernel of
  a client that has gone replies with a reset, and its request is cancelled.
- A request that is answered before its end must end within `head_seconds` and `max_unread_bytes`, or the connection
  closes. If its client waits for `100 Continue`, the connection closes at once, as nobody knows what comes next.
- A connection without any request ends after the keep-alive timeout. `connections` bounds how many there are, and
  `transport` what a client may do that does not read or goes on sending.
"""

import asyncio
from typing import Any, ClassVar, cast
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.errors import BadRequest, HeadersTooLarge, ServiceError
from app.http.connections import ConnectionRegistry
from app.http.cycle import Cycle, Flow
from app.http.framing import NOT_HTTP, check_headers, read_target
from app.http.reader import MessageReader
from app.http.transport import BoundedTransport

TOO_SLOW = "The request's head was not complete after {:g} seconds."


class _TooManyWaiting(Exception):  # raised through the parser
    pass


class BoundedProtocol(HttpToolsProtocol):
    """One connection. The bounds are class attributes, so that a subclass can have others."""

    max_head_bytes: ClassVar[int] = 64 * 1024
    head_seconds: ClassVar[float] = 10.0
    max_waiting: ClassVar[int] = 16
    max_unread_bytes: ClassVar[int] = 64 * 2**20
    registry: ClassVar[ConnectionRegistry] = ConnectionRegistry()
    transport_class: ClassVar[type[BoundedTransport]] = BoundedTransport

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reader = MessageReader(self.parser.feed_data, self.max_head_bytes)
        self._unread_bytes = 0  # of a body, after its answer
        self._ended = False  # nothing more is parsed
        self._faulty = False  # what cannot be parsed has come, or too many requests
        self._timer: asyncio.TimerHandle | None = None
        self._running: Cycle | None = None
        self._half_closed = False

    @property
    def _bounded(self) -> BoundedTransport:
        return cast(BoundedTransport, self.transport)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Closes the connection where there are too many."""
        super().connection_made(transport)
        bounded = self.transport_class(transport, self.loop, self._may_send)
        self.transport = cast(asyncio.Transport, bounded)
        self.flow = Flow(transport, self.pipeline)
        if self.registry.admit(self, self.client[0] if self.client else ""):
            self._begin_idle()
        else:
            self._ended = True
            bounded.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Also notifies the request that is running while others wait, which are dropped."""
        self._stop_timer()
        self._bounded.stop_timers()
        self._unset_keepalive_if_required()
        self.registry.remove(self)
        self._ended = True
        self._reader.clear()
        self.pipeline.clear()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def close(self) -> None:
        """Closes an idle connection."""
        self.transport.close()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keeps the connection open for the answers to whole requests."""
        if not (self.pipeline or self._is_answering()):
            return False
        if not self._ended:
            if self._reader.in_body:
                return False
            self._ended = True
            self.cycle.keep_alive = False
        self._half_closed = True
        if self._running is not None and self._is_answering():
            self._begin_answer(self._running)
        self._stop_timer()
        self._bounded.watch_peer()
        return True

    def data_received(self, data: bytes) -> None:
        """Parses it, up to the end of the last request."""
        self._unset_keepalive_if_required()
        start = 0
        while start < len(data) and not self._ended:
            start = self._read(data, start)
        if start < len(data):
            if not self._bounded.discard(len(data) - start) and not self.transport.is_closing():
                self.flow.pause_reading()
        elif self._timer is None and self._reader.in_head and not self._ended:
            self._start_timer()

    def _read(self, data: bytes, start: int) -> int:
        unread = self._reader.in_body and self.cycle.response_complete
        try:
            end = self._reader.read(data, start)
        except httptools.HttpParserUpgrade:
            self._refuse(BadRequest(NOT_HTTP.format("Upgrade has a value that is not valid")))
        except httptools.HttpParserError as error:
            self._on_parser_error(error)
        except ServiceError as error:
            self._refuse(error)
        else:
            self._unread_bytes += unread * (end - start)
            if self._unread_bytes > self.max_unread_bytes:
                self._ended = True
                self._bounded.end()
            return end
        return start

    def _on_parser_error(self, error: httptools.HttpParserError) -> None:
        cause = error.__context__  # what a callback has raised
        if isinstance(cause, _TooManyWaiting):
            self._ended = self._faulty = True
            self.cycle.keep_alive = False
        else:
            self._refuse(cause if isinstance(cause, ServiceError) else BadRequest(NOT_HTTP.format(cause or error)))

    def on_message_begin(self) -> None:
        """The parser has seen the first byte of a request."""
        super().on_message_begin()
        self._reader.begin_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which is dropped."""
        if self._reader.reads_headers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Starts the request, or lets it wait for those before it."""
        self._stop_timer()
        method, version = self.parser.get_method(), self.parser.get_http_version()
        path, _, query = read_target(method, self.url).partition(b"?")
        length = check_headers(self.headers, version)
        if len(self.pipeline) >= self.max_waiting:
            raise _TooManyWaiting
        scope = cast(dict[str, Any], self.scope)
        scope["method"], scope["http_version"] = method.decode("ascii"), version
        scope["path"] = self.root_path + unquote(path.decode("ascii"))
        scope["raw_path"] = self.root_path.encode("ascii") + path
        scope["query_string"] = query
        newer = version != "1.0"
        self._unread_bytes = 0
        self._reader.begin_body(length)
        self._hand_over(
            self._make_cycle(
                expect_100_continue=newer and self.expect_100_continue,
                keep_alive=newer and self.parser.should_keep_alive(),
            )
        )

    def on_message_complete(self) -> None:
        """The request has come to its end."""
        self._stop_timer()
        self._reader.end()
        super().on_message_complete()
        if not self.cycle.keep_alive:
            self._ended = True

    def on_response_complete(self) -> None:
        """Starts the next request. A request that is answered too early has some seconds to end."""
        super().on_response_complete()
        self._bounded.watch_writes()
        if self.timeout_keep_alive_task is not None:
            self.registry.mark_idle(self)
        if self._reader.in_body and self.cycle.response_complete and not self.transport.is_closing():
            self._start_timer()

    def pause_writing(self) -> None:
        """The client takes an answer more slowly than it is made."""
        super().pause_writing()
        self._bounded.watch_writes()

    def _begin_idle(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
        self.registry.mark_idle(self)

    def _unset_keepalive_if_required(self) -> None:
        super()._unset_keepalive_if_required()
        self.registry.mark_busy(self)

    def _may_send(self) -> bool:
        """Whether the client may be sending what is not going to be answered."""
        return not self._half_closed and (self._faulty or self._reader.in_body)

    def _is_answering(self) -> bool:
        return self._running is not None and not (self._running.response_complete or self._running.disconnected)

    def _begin_answer(self, cycle: RequestResponseCycle) -> None:
        """Sends the bytes that every answer begins with, to which the kernel of a client that has gone replies."""
        if not cycle.response_started:
            self._bounded.begin_answer()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cast(Cycle, cycle)
        if self._half_closed:
            self._begin_answer(cycle)
        super()._start_asgi_task(cycle, app)

    def _hand_over(self, cycle: Cycle) -> None:
        before, self.cycle = self.cycle, cycle
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def _refuse(self, error: ServiceError) -> None:
        """Answers with `error`, in its turn, as the last answer of this connection."""
        self._ended = self._faulty = True
        self._reader.clear()
        self._stop_timer()
        if not self._reader.in_body:
            self._hand_over(self._make_refusal(error))
        elif self.cycle.response_complete:
            self.transport.close()
        else:
            cast(Cycle, self.cycle).break_off(error)

    def _make_cycle(self, *, expect_100_continue: bool, keep_alive: bool) -> Cycle:
        return Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=expect_100_continue,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )

    def _make_refusal(self, error: ServiceError) -> Cycle:
        """A request in the place of one that could not be parsed."""
        super().on_message_begin()
        scope = cast(dict[str, Any], self.scope)
        scope.update(method="GET", path="", raw_path=b"", query_string=b"")
        scope["state"]["refusal"] = error
        refusal = self._make_cycle(expect_100_continue=False, keep_alive=False)
        refusal.more_body = False
        refusal.message_event.set()
        return refusal

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
        elif self._reader.in_body:
            self._bounded.end()
        else:
            self._refuse(HeadersTooLarge(TOO_SLOW.format(self.head_seconds)))
