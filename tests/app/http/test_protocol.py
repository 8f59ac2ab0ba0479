"""The bounds of a connection, with a fake transport and clock, and once with real sockets."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from app.http.problems import problem_response
from app.http.protocol import BoundedProtocol
from app.main import create_app
from app.settings import Settings
from tests.fakes.service import ZYGOTE

pytestmark = pytest.mark.anyio
GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the body, after all of it; refuses as the real application does."""
    if "refusal" in scope["state"]:
        await problem_response(scope["state"]["refusal"], "id")(scope, receive, send)
        return
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        if not message["more_body"]:
            break
    headers = [(b"content-length", b"%d" % len(body)), (b"x-names", b",".join(name for name, _ in scope["headers"]))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written, self.closed, self.paused = b"", False, False

    def write(self, data: Any) -> None:
        if not self.closed:
            self.written += data

    def close(self) -> None:
        self.closed = True

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
        for due, call, handle in list(self.due):
            if due <= seconds and not handle.cancelled():
                handle.cancel()
                call()


class Client:
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


@pytest.mark.parametrize(
    "flood",
    [
        b"GET /" + b"a" * 140_000,
        b"GET / HTTP/1.1\r\nX: " + b"a" * 140_000,
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 12_000,
        CHUNKED + b"0\r\n" + b"a: b\r\n" * 12_000,
        CHUNKED + b"5;" + b"a" * 140_000,
        b"\r\n" * 70_000,
    ],
)
@pytest.mark.parametrize("size", [1000, 300_000])
async def test_a_head_that_is_too_long_gets_431(flood: bytes, size: int) -> None:
    client = Client()
    assert await client.send(*(flood[i : i + size] for i in range(0, len(flood), size))) == [431]
    assert client.transport.closed
    assert b'"code":"headers_too_large"' in client.transport.written


@pytest.mark.parametrize("head", [b"G", GET[:-1], b"\r\n", GET + b"GET"])
async def test_a_head_that_trickles_in_gets_431(head: bytes) -> None:
    client = Client()
    before = await client.send(*(head[i : i + 1] for i in range(len(head))))
    client.late()
    assert await client.send() == [*before, 431]


async def test_a_whole_request_is_never_late() -> None:
    client = Client()
    await client.send(GET)
    client.late()
    assert await client.send(GET) == [200, 200]


async def test_an_answered_request_must_end() -> None:
    async def hasty(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    client = Client(hasty)
    assert await client.send(CHUNKED) == [413]
    assert not client.transport.closed
    client.late()
    assert client.transport.closed


async def test_more_than_sixteen_waiting_requests_close_the_connection_after_their_answers() -> None:
    client = Client()
    client.protocol.data_received(GET * 20_000)
    assert client.transport.paused
    assert len(client.protocol.pipeline) == 16
    assert await client.send(GET) == [200] * 17
    assert client.transport.closed


async def test_sixteen_waiting_requests_are_answered_on_an_open_connection() -> None:
    client = Client()
    assert await client.send(GET * 17) == [200] * 17
    assert not client.transport.closed
    assert not client.transport.paused


@pytest.mark.parametrize("upgrade", [b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n", b""])
@pytest.mark.parametrize("together", [True, False])
async def test_an_upgrade_is_ignored_and_the_body_stays_the_body(upgrade: bytes, together: bool) -> None:
    client = Client()
    head = b"POST /a HTTP/1.1\r\nHost: x\r\n" + upgrade + b"Content-Length: %d\r\n\r\n" % len(GET)
    assert await client.send(*([head + GET] if together else [head, GET])) == [200]
    assert client.transport.written.endswith(GET)
    assert await client.send(GET) == [200, 200]


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01",
        b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET /\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\rC: d\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\x00\r\n\r\n",
        CHUNKED + b"xyz\r\n",
    ],
)
async def test_what_cannot_be_parsed_gets_400_and_nothing_more(request_: bytes) -> None:
    client = Client()
    assert await client.send(request_, GET) == [400]
    assert client.transport.closed
    assert b"application/problem+json" in client.transport.written
    assert b"connection: close" in client.transport.written


async def test_a_refusal_waits_for_its_turn() -> None:
    client = Client()
    assert await client.send(GET + GET + b"nonsense\r\n\r\n") == [200, 200, 400]


async def test_trailers_do_not_become_headers() -> None:
    client = Client()
    await client.send(CHUNKED + b"0\r\nX-API-Key: k\r\n\r\n")
    assert b"x-names: host,transfer-encoding\r\n" in client.transport.written


async def test_a_client_that_waits_for_100_continue_gets_it() -> None:
    client = Client()
    await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert client.transport.written == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert await client.send(b"ab") == [200]


async def test_a_lost_connection_reaches_the_request_that_runs() -> None:
    seen = []

    async def wait(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        seen.append((await receive())["type"])

    client = Client(wait)
    await client.send(GET * 3)
    client.protocol.connection_lost(ConnectionResetError())
    await client.send()
    assert seen == ["http.disconnect"]


@pytest.fixture
async def port() -> AsyncIterator[int]:
    config = uvicorn.Config(echo, port=0, log_config=None, access_log=False, http=BoundedProtocol, ws="none")
    config.load()
    protocol = lambda: BoundedProtocol(config, ServerState(), {})  # noqa: E731
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_a_half_closed_client_gets_its_answers(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET * 3)
    writer.write_eof()
    async with asyncio.timeout(10):
        assert (await reader.read()).count(b"HTTP/1.1 200") == 3
    writer.close()


class HeldApp:
    """Takes a request's body and answers when it is released, unless its client goes before."""

    def __init__(self) -> None:
        self.begun, self.released, self.gone = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        self.begun.set()
        waiting = [asyncio.ensure_future(receive()), asyncio.ensure_future(self.released.wait())]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if waiting[0].done():
            self.gone.set()
            return
        waiting[0].cancel()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def listening(app: Any) -> AsyncIterator[int]:
    """The port of a server of that application."""
    config = uvicorn.Config(app, log_config=None, access_log=False, ws="none", lifespan="off")
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: BoundedProtocol(config, ServerState(), {}), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def running_request(app: HeldApp) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """The connection of a client whose request `app` has begun to answer."""
    async with listening(app) as port, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        await app.begun.wait()
        yield reader, writer
        writer.close()


async def test_a_client_that_closes_is_noticed_while_its_request_runs() -> None:
    """A close and a half-close begin alike; a request whose client has gone is told so before its answer."""
    app = HeldApp()
    async with running_request(app) as (_, writer):
        writer.close()
        await app.gone.wait()


async def test_a_half_closed_client_is_not_taken_for_one_that_has_gone() -> None:
    """Its request runs on, and its answer is whole: what was sent early is not sent twice."""
    app = HeldApp()
    async with running_request(app) as (reader, writer):
        writer.write_eof()
        begin = await reader.readexactly(9)
        assert begin == b"HTTP/1.1 "
        app.released.set()
        answer = begin + await reader.read()
        assert not app.gone.is_set()
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.count(b"HTTP/1.1") == 1
        assert answer.endswith(b"\r\n\r\nok")


async def ask(port: int, request: bytes) -> tuple[bytes, bytes]:
    """The head and the body of the answer to a client that half-closes after its request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    writer.write_eof()
    async with asyncio.timeout(10):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head, body


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"hello\r\n\r\n", 400, "bad_request"),
        (b"GET /health/live HTTP/9.9\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10_923 + b"\r\n", 431, "headers_too_large"),
    ],
)
async def test_the_service_answers_and_counts_what_cannot_be_parsed(
    request_bytes: bytes, status: int, code: str
) -> None:
    """The answer is a problem document with an id, the connection closes, and the metrics count it."""
    app = create_app(Settings.model_validate({}), ZYGOTE)
    async with listening(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_bytes)
        async with asyncio.timeout(10):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        _, metrics = await ask(port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    document = json.loads(body)
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    assert (document["status"], document["code"]) == (status, code)
    assert b"x-request-id: " + document["request_id"].encode() in head
    assert b'vgg_requests_total{route="unmatched",status="%d"} 1.0' % status in metrics


@pytest.mark.parametrize(
    "path", ["/health/live", "/health/ready", "/health/startup", "/metrics", "/model", "/docs", "/openapi.json"]
)
async def test_every_get_route_answers_head(path: str) -> None:
    """HEAD has the status and the type of GET, and no body (RFC 9110, section 9.3.2)."""
    async with listening(create_app(Settings.model_validate({}), ZYGOTE)) as port:
        heads = {}
        for method in ("GET", "HEAD"):
            head, body = await ask(port, f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert bool(body) == (method == "GET")
            lines = head.split(b"\r\n")
            heads[method] = (lines[0], next(line for line in lines if line.lower().startswith(b"content-type")))
    assert heads["GET"] == heads["HEAD"]
    assert b" 405 " not in heads["HEAD"][0]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from([GET, CHUNKED + b"0\r\n\r\n", GET[:-4], b"\r\n", b"5\r\n", b"\x00", b"a" * 2000]), max_size=40
    ),
    st.lists(st.integers(1, 500), min_size=1, max_size=20),
)
def test_no_request_is_answered_twice(pieces: list[bytes], sizes: list[int]) -> None:
    async def run() -> None:
        client, stream, i = Client(), b"".join(pieces), 0
        while stream:
            size = sizes[i % len(sizes)]
            await client.send(stream[:size])
            stream, i = stream[size:], i + 1
            assert len(client.protocol.pipeline) <= 17
        statuses = await client.send()
        assert len(statuses) <= b"".join(pieces).count(b"HTTP/1.1") + 1
        assert set(statuses[:-1]) <= {200}
        client.protocol.connection_lost(None)

    asyncio.run(run())
