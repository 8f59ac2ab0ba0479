"""One HTTP connection without a socket, whose clock a test sets; and a server with real sockets."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from app.errors import ServiceError
from app.http.connections import ConnectionRegistry
from app.http.problems import problem_response
from app.http.protocol import BoundedProtocol

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the body, after all of it; refuses as the real application does."""
    try:
        if "refusal" in scope["state"]:
            raise scope["state"]["refusal"]
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            if not message["more_body"]:
                break
    except ServiceError as error:
        await problem_response(error, "id")(scope, receive, send)
        return
    headers = [(b"content-length", b"%d" % len(body)), (b"x-names", b",".join(name for name, _ in scope["headers"]))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class FakeTransport(asyncio.Transport):
    """Keeps what is written. While `stuck` is true its client takes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.written, self.closed, self.aborted, self.ended, self.paused = b"", False, False, False, False
        self.stuck, self.buffered = False, 0

    def write(self, data: Any) -> None:
        if not self.closed:
            self.written += data
            self.buffered += len(data) if self.stuck else 0

    def write_eof(self) -> None:
        self.ended = True

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def close(self) -> None:
        self.closed = self.ended = True

    def abort(self) -> None:
        self.closed = self.ended = self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def statuses(self) -> list[int]:
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) (?!Continue)", self.written)]


class Timers:
    """The loop, whose timers go off when a test says so."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.due: list[tuple[float, Callable[[], None], asyncio.Handle]] = []

    def create_task(self, *args: Any, **kwargs: Any) -> Any:
        return self.loop.create_task(*args, **kwargs)

    def call_later(self, seconds: float, call: Callable[[], None]) -> asyncio.Handle:
        handle = asyncio.Handle(call, (), self.loop)
        self.due.append((seconds, call, handle))
        return handle

    def pass_seconds(self, seconds: float) -> None:
        """Calls what is due by then. What it schedules itself is not due yet."""
        due, self.due = self.due, []
        for after, call, handle in due:
            if handle.cancelled():
                continue
            if after <= seconds:
                handle.cancel()
                call()
            else:
                self.due.append((after, call, handle))


class Client:
    """A client of the protocol itself."""

    def __init__(self, app: Any = echo) -> None:
        config = uvicorn.Config(
            app, log_config=None, access_log=False, ws="none", lifespan="off", timeout_keep_alive=620
        )
        self.timers, self.transport = Timers(), FakeTransport()
        self.protocol = BoundedProtocol(config, ServerState(), {}, self.timers)
        self.protocol.connection_made(self.transport)

    async def send(self, *pieces: bytes) -> list[int]:
        """Every status so far."""
        for piece in pieces:
            self.protocol.data_received(piece)
        for _ in range(60):
            await asyncio.sleep(0)
        return self.transport.statuses()

    def late(self) -> None:
        self.timers.pass_seconds(10)


@asynccontextmanager
async def listening(app: Any, protocol: type[BoundedProtocol] = BoundedProtocol) -> AsyncIterator[int]:
    """The port of a server of that application, with a registry of its own."""
    config = uvicorn.Config(app, log_config=None, access_log=False, ws="none", lifespan="off", timeout_keep_alive=620)
    loop, state = asyncio.get_running_loop(), ServerState()
    own = type("Own", (protocol,), {"registry": protocol.__dict__.get("registry", ConnectionRegistry())})
    server = await loop.create_server(lambda: own(config, state, {}), "127.0.0.1", 0)
    async with server:
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            for connection in list(state.connections):
                connection.transport.abort()


async def ask(port: int, request: bytes) -> tuple[bytes, bytes]:
    """The head and the body of the answer to a client that half-closes after its request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    writer.write_eof()
    async with asyncio.timeout(10):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head, body
