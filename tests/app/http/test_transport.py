"""Clients that do not read, or go on sending: with a fake transport and clock, and with real sockets."""

import asyncio
import socket
from typing import Any

import pytest

from app.http.protocol import BoundedProtocol
from app.http.transport import BoundedTransport
from tests.fakes.connection import CHUNKED, GET, Client, echo, listening

pytestmark = pytest.mark.anyio
BAD = b"GET * HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_a_client_that_takes_nothing_is_cut_off() -> None:
    """After ten seconds without progress the connection is aborted, and with it what waits to be sent."""
    client = Client()
    client.transport.stuck = True
    await client.send(GET)
    client.timers.pass_seconds(10)
    assert client.transport.aborted


async def test_a_client_that_reads_slowly_is_not_cut_off() -> None:
    client = Client()
    client.transport.stuck = True
    await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n" + bytes(50_000))
    for _ in range(4):
        client.transport.buffered -= 10_240
        client.timers.pass_seconds(10)
        assert not client.transport.aborted
    client.transport.buffered -= 1000
    client.timers.pass_seconds(10)
    assert client.transport.aborted


async def test_a_client_that_has_taken_all_is_no_longer_watched() -> None:
    client = Client()
    client.transport.stuck = True
    await client.send(GET)
    client.transport.buffered = 0
    client.timers.pass_seconds(10)
    client.timers.pass_seconds(10)
    assert not client.transport.aborted


async def test_a_close_does_not_wait_for_a_client_that_takes_nothing() -> None:
    client = Client()
    client.transport.stuck = True
    await client.send(GET.replace(b"Host", b"Connection: close\r\nHost"))
    assert client.transport.closed
    assert not client.transport.aborted
    client.timers.pass_seconds(10)
    assert client.transport.aborted


async def test_an_answer_that_breaks_off_does_not_wait_for_its_client() -> None:
    async def fail(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})

    client = Client(fail)
    client.transport.stuck = True
    await client.send(GET)
    assert client.transport.closed
    client.timers.pass_seconds(10)
    assert client.transport.aborted


@pytest.mark.parametrize("request_", [BAD, b"GET /" + bytes(70_000), CHUNKED + b"xyz\r\n"])
async def test_a_refused_client_that_goes_on_sending_has_a_megabyte_and_five_seconds(request_: bytes) -> None:
    """Its sending is read and thrown away meanwhile; the server's half is closed at once."""
    client = Client()
    await client.send(request_)
    assert client.transport.ended
    assert not client.transport.closed
    await client.send(bytes(900_000))
    assert not client.transport.closed
    await client.send(bytes(200_000))
    assert client.transport.aborted
    client = Client()
    await client.send(request_)
    client.timers.pass_seconds(5)
    assert client.transport.aborted


async def test_what_comes_behind_the_last_request_is_not_read_without_bound() -> None:
    """While answers are due the connection is paused and not closed."""
    held = asyncio.Event()

    async def wait(scope: Any, receive: Any, send: Any) -> None:
        await held.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    client = Client(wait)
    await client.send(GET.replace(b"Host", b"Connection: close\r\nHost"), bytes(2**20), b"more")
    assert client.transport.paused
    assert not client.transport.closed
    held.set()
    assert await client.send() == [200]
    assert client.transport.closed


async def test_a_client_that_still_sends_can_read_why_it_was_refused() -> None:
    """Without the lingering close its kernel would discard the answer at the reset."""

    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        body = b"no" * 1000
        await send({"type": "http.response.start", "status": 400, "headers": [(b"content-length", b"2000")]})
        await send({"type": "http.response.body", "body": body})

    async with listening(refuse) as port, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(BAD)
        assert await reader.read(1) == b"H"
        for _ in range(9):
            writer.write(bytes(100_000))
            await writer.drain()
        assert (await reader.read()).endswith(b"no" * 1000)
        writer.close()


class ShortTransport(BoundedTransport):
    write_seconds = 0.2
    linger_seconds = 0.2


class ShortProtocol(BoundedProtocol):
    transport_class = ShortTransport


@pytest.mark.parametrize("closing", [b"", b"Connection: close\r\n"])
async def test_a_real_client_that_never_reads_is_cut_off(closing: bytes) -> None:
    """Its request ends with its connection, so a reload or a shutdown does not wait for it."""
    ended = asyncio.Event()

    async def large(scope: Any, receive: Any, send: Any) -> None:
        size = 32 * 2**20
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
        for i in range(32):
            await send({"type": "http.response.body", "body": bytes(2**20), "more_body": i < 31})
        while (await receive())["type"] != "http.disconnect":
            pass
        ended.set()

    async with listening(large, ShortProtocol) as port, asyncio.timeout(10):
        client = socket.create_connection(("127.0.0.1", port))
        client.setblocking(False)
        client.send(GET.replace(b"Host", closing + b"Host"))
        await ended.wait()
        client.close()


async def test_a_real_client_that_sends_for_ever_is_cut_off() -> None:
    async with listening(echo, ShortProtocol) as port, asyncio.timeout(10):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x16\x03\x01\r\n")
        try:
            while not writer.is_closing():
                writer.write(bytes(1000))
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            pass
        writer.close()
