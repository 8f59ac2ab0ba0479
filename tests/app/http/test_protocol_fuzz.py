"""Any bytes in any pieces: the connection against h11, an independent parser of HTTP/1.1."""

import asyncio
from dataclasses import dataclass
from typing import Any

import h11
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import ServiceError
from app.http.framing import read_target
from app.http.problems import problem_response
from app.http.protocol import BoundedProtocol
from tests.fakes.connection import CHUNKED, GET, Client
from tests.fakes.requests import read_requests

BLANK = b"\r\n"
TOKENS = [
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b":",
        b";",
        b",",
        b"\x00",
        b"\xff",
        b"0\r\n\r\n",
        b"5\r\nhello\r\n",
        b"1;a=b\r\n",
    ),
    *(b"GET ", b"POST ", b"OPTIONS ", b"/", b"*", b"http://x", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"Host: x\r\n"),
    *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Upgrade: h2c\r\n"),
    *(b"Connection: upgrade\r\n", b"Expect: 100-continue\r\n", b"a" * 3000, b"a: b\r\n" * 500),
]
CORPUS = [request for _, request in read_requests()]
streams = st.lists(
    st.one_of(st.sampled_from(CORPUS), st.sampled_from(TOKENS), st.sampled_from([GET, CHUNKED]), st.binary(max_size=8)),
    max_size=12,
).map(b"".join)
edits = st.lists(st.tuples(st.integers(0, 600), st.integers(0, 6), st.sampled_from([b"", *TOKENS])), max_size=3)


@dataclass(frozen=True)
class Parsed:
    """A whole request."""

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class Recorder:
    """Keeps the requests that it gets whole, and answers them."""

    def __init__(self) -> None:
        self.requests: list[Parsed] = []
        self.refusals = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
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
            self.refusals += 1
            await problem_response(error, "id")(scope, receive, send)
            return
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        self.requests.append(Parsed(scope["method"].encode(), target, tuple(scope["headers"]), body))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


def parse_with_h11(stream: bytes) -> list[Parsed]:
    """The whole requests at the beginning of the stream, up to the first that h11 refuses."""
    found: list[Parsed] = []
    while True:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=BoundedProtocol.max_head_bytes)
        connection.receive_data(stream.lstrip(BLANK))  # h11 refuses empty lines before a request
        try:
            request, body = connection.next_event(), b""
            if not isinstance(request, h11.Request):
                return found
            while isinstance(event := connection.next_event(), h11.Data):
                body += event.data
            if not isinstance(event, h11.EndOfMessage):
                return found
        except h11.RemoteProtocolError:
            return found
        try:
            target = read_target(request.method, request.target).removesuffix(b"?")
        except ServiceError:
            return found
        headers = tuple((name, value) for name, value in request.headers if name != b"upgrade")
        found.append(Parsed(request.method, target, headers, body))
        stream, _ = connection.trailing_data


def edit(stream: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for at, removed, inserted in changes:
        stream = stream[:at] + inserted + stream[at + removed :]
    return stream


def held_bytes(client: Client) -> int:
    """What the connection keeps of what its client has sent."""
    protocol = client.protocol
    cycles = [cycle for cycle, _ in protocol.pipeline] + ([protocol.cycle] if protocol.cycle else [])
    heads = sum(len(name) + len(value) for cycle in cycles for name, value in cycle.scope["headers"])
    return len(protocol._reader._line) + heads + sum(len(cycle.body) for cycle in cycles)


async def run(stream: bytes, sizes: list[int]) -> None:
    app = Recorder()
    client = Client(app)
    sent = i = 0
    while sent < len(stream) and not client.transport.closed:
        piece = stream[sent : sent + sizes[i % len(sizes)]]
        client.protocol.data_received(piece)  # raises nothing
        await asyncio.sleep(0)
        if client.transport.paused:  # a real transport delivers nothing meanwhile
            await client.send()
        sent, i = sent + len(piece), i + 1
        assert held_bytes(client) <= BoundedProtocol.max_head_bytes + max(sizes)
        assert len(client.protocol.pipeline) <= BoundedProtocol.max_waiting + 1
    statuses = await client.send()
    assert statuses == [200] * len(app.requests) + [status for status in statuses if status != 200]
    assert app.refusals == len(statuses) - len(app.requests) <= 1
    assert app.requests == parse_with_h11(stream)[: len(app.requests)]
    if app.refusals and not client.transport.closed:
        await client.send(GET)
        assert client.transport.statuses() == statuses
    client.protocol.connection_lost(None)


@settings(max_examples=200, deadline=None)
@given(streams, edits, st.lists(st.integers(1, 4000), min_size=1, max_size=8))
def test_every_request_is_what_an_independent_parser_says_or_is_refused(
    stream: bytes, changes: list[tuple[int, int, bytes]], sizes: list[int]
) -> None:
    """It raises nothing, keeps no more than its bound, and reads nothing after a refusal."""
    asyncio.run(run(edit(stream, changes), sizes))
