"""The bounds of a connection, with a fake transport and clock, and once with real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.http.protocol import BoundedProtocol
from app.main import create_app
from app.settings import Settings
from tests.fakes.connection import CHUNKED, GET, Client, ask, echo, listening
from tests.fakes.requests import read_requests
from tests.fakes.service import ZYGOTE

pytestmark = pytest.mark.anyio


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
    assert client.transport.ended
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


async def hasty(scope: Any, receive: Any, send: Any) -> None:
    """Answers without reading the body."""
    await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def test_an_answered_request_must_end() -> None:
    client = Client(hasty)
    assert await client.send(CHUNKED) == [413]
    assert not client.transport.closed
    client.late()
    assert client.transport.closed


async def test_an_answered_request_may_send_its_body_within_bounds() -> None:
    """A client that reads only after it has sent gets its answer, and can use the connection again."""
    client = Client(hasty)
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    megabyte = bytes(2**20)
    assert await client.send(head % (64 * 2**20)) == [413]
    assert await client.send(*[megabyte] * 64, GET) == [413, 413]
    assert not client.transport.ended
    await client.send(head % (65 * 2**20))
    assert await client.send(*[megabyte] * 65) == [413, 413, 413]
    assert client.transport.closed


async def test_more_than_sixteen_waiting_requests_close_the_connection_after_their_answers() -> None:
    client = Client()
    client.protocol.data_received(GET * 20_000)
    assert client.transport.paused
    assert len(client.protocol.pipeline) == 16
    assert await client.send(GET) == [200] * 17
    assert client.transport.ended


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


@pytest.mark.parametrize("end", [b"", GET])
@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(("statuses", "request_"), read_requests())
async def test_requests_get_the_right_statuses(statuses: list[int], request_: bytes, size: int, end: bytes) -> None:
    """What RFC 9112 forbids or leaves open to doubt gets 400, and what follows it is not parsed."""
    client, refused = Client(), 400 in statuses
    stream = request_ + (end if refused else b"")
    assert await client.send(*(stream[i : i + size] for i in range(0, len(stream), size))) == statuses
    if refused:
        assert client.transport.ended
        assert b"application/problem+json" in client.transport.written
        assert b"connection: close" in client.transport.written


async def test_a_body_that_breaks_while_its_request_waits_is_answered_in_its_turn() -> None:
    client = Client()
    assert await client.send(GET + CHUNKED + b"xyz\r\n") == [200, 400]


async def test_a_body_that_breaks_after_its_answer_closes_the_connection() -> None:
    client = Client(hasty)
    assert await client.send(CHUNKED) == [413]
    assert await client.send(b"xyz\r\n", GET) == [413]
    assert client.transport.ended


@pytest.mark.parametrize(
    ("chunk", "count", "status"),
    [
        (b"14\r\n" + b"a" * 20 + b"\r\n", 20_000, 200),
        (b"1\r\na\r\n", 20_000, 200),
        (b"1\r\na\r\n", 40_000, 431),
        (b"1;" + b"e" * 200 + b"\r\na\r\n", 400, 431),
    ],
)
async def test_small_chunks_and_their_extensions_are_bounded(chunk: bytes, count: int, status: int) -> None:
    """A body may have any number of chunks of 20 bytes; what frames smaller ones is bounded as a head is."""
    client = Client()
    assert await client.send(CHUNKED + chunk * count + b"0\r\n\r\n") == [status]


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("size", [13, 100_000])
async def test_a_head_may_have_exactly_64_kib(more: int, size: int) -> None:
    """The bound counts every byte of a head, of a finished and of an unfinished one alike."""
    head = b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"
    head %= b"a" * (65_536 + more - len(head) + 2)
    client = Client()
    assert await client.send(*(head[i : i + size] for i in range(0, len(head), size))) == ([431] if more else [200])
    client = Client()
    unfinished = b"GET /" + b"a" * (65_531 + more)
    pieces = (unfinished[i : i + size] for i in range(0, len(unfinished), size))
    assert await client.send(*pieces) == ([431] if more else [])


async def test_after_the_last_request_nothing_is_parsed() -> None:
    """What follows a request with `Connection: close` is not another request (RFC 9112, 9.6)."""
    client = Client()
    last = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert await client.send(last + GET + b"nonsense") == [200]
    assert client.transport.closed


async def test_a_refusal_waits_for_its_turn() -> None:
    client = Client()
    assert await client.send(GET + GET + b"nonsense\r\n\r\n") == [200, 200, 400]


async def test_trailers_do_not_become_headers() -> None:
    client = Client()
    await client.send(CHUNKED + b"0\r\nX-API-Key: k\r\n\r\n")
    assert b"x-names: host,transfer-encoding\r\n" in client.transport.written


async def test_a_refused_client_does_not_get_100_continue() -> None:
    """It may then send its body or not, so the connection closes (RFC 9110, section 10.1.1)."""
    client = Client(hasty)
    head = b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 200\r\n\r\n"
    assert await client.send(head, GET) == [413]
    assert b"100" not in client.transport.written
    assert b"connection: close" in client.transport.written
    assert client.transport.ended


async def test_http_1_0_knows_no_100_continue() -> None:
    client = Client()
    await client.send(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert client.transport.written == b""


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


async def test_a_half_closed_client_gets_its_answers() -> None:
    async with listening(echo) as port:
        head, body = await ask(port, GET * 3)
        assert (head + body).count(b"HTTP/1.1 200") == 3


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


async def test_a_broken_body_is_one_request_in_the_metrics(checkpoint: Path) -> None:
    """It is counted once, as 400 of its route, and keeps the id that its client gave it."""
    app = create_app(Settings.model_validate({"checkpoint": checkpoint, "dtype": "float32"}), ZYGOTE)
    async with app.router.lifespan_context(app), listening(app) as port:
        await app.state.starting
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nX-Request-ID: mine\r\n"
            b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        async with asyncio.timeout(10):
            await reader.readuntil(b"100 Continue\r\n\r\n")
            writer.write(b"5\r\nhello\r\nxyz\r\n")
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        _, metrics = await ask(port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["request_id"] == "mine"
    counted = [line for line in metrics.splitlines() if line.startswith(b"vgg_requests_total")]
    assert counted == [b'vgg_requests_total{route="/predict",status="400"} 1.0']


async def test_a_client_that_has_gone_gets_at_most_two_of_its_waiting_requests_computed() -> None:
    """While requests wait nothing is read, so the close is noticed when an answer cannot be sent."""
    begun, first, released, lost = 0, asyncio.Event(), asyncio.Event(), asyncio.Event()

    class WatchedProtocol(BoundedProtocol):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            lost.set()

    async def hold(scope: Any, receive: Any, send: Any) -> None:
        nonlocal begun
        begun += 1
        first.set()
        await released.wait()
        await echo(scope, receive, send)

    async with listening(hold, WatchedProtocol) as port, asyncio.timeout(10):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET * 16)
        await first.wait()
        writer.transport.abort()
        released.set()
        await lost.wait()
        assert begun <= 2
