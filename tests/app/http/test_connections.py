"""How many connections there may be, and which give way."""

import asyncio
import resource
from collections.abc import Iterator
from contextlib import suppress
from typing import Self

import pytest

from app.http.connections import ConnectionRegistry
from app.http.protocol import BoundedProtocol
from tests.fakes.connection import GET, echo, listening

pytestmark = pytest.mark.anyio


class FakeConnection:
    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


def connections(registry: ConnectionRegistry, addresses: str) -> Iterator[FakeConnection | None]:
    """One for each letter, which is its address; None where it was not admitted."""
    for address in addresses:
        connection = FakeConnection()
        yield connection if registry.admit(connection, address) else None


def test_one_address_leaves_a_quarter_of_the_connections_to_others() -> None:
    """So a probe gets in while one client takes all that it can."""
    registry = ConnectionRegistry(max_connections=8)
    admitted = [connection is not None for connection in connections(registry, "aaaaaaaabbb")]
    assert admitted == [True] * 6 + [False] * 2 + [True] * 2 + [False]


def test_at_the_limit_the_longest_idle_connection_gives_way() -> None:
    """A connection that is busy never does."""
    registry = ConnectionRegistry(max_connections=4)
    a, b, c, d = (connection for connection in connections(registry, "abcd") if connection)
    for connection in (c, b, a):
        registry.mark_idle(connection)
    registry.mark_busy(c)
    assert [connection is not None for connection in connections(registry, "efg")] == [True, True, False]
    assert [connection.closed for connection in (a, b, c, d)] == [True, True, False, False]
    assert len(registry) == 4


def test_a_removed_connection_makes_room_for_its_address() -> None:
    registry = ConnectionRegistry(max_connections=4)
    a, *_ = connections(registry, "aaa")
    assert a is not None
    registry.remove(a)
    registry.remove(a)
    assert next(connections(registry, "a")) is not None
    assert len(registry) == 3


def test_the_limit_leaves_files_to_the_process() -> None:
    """Each connection is an open file."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert ConnectionRegistry().limit() == min(10_000, files - 64)
    assert ConnectionRegistry(max_connections=3).limit() == 3


class Visitor:
    """Connections of one address, which are closed at the end of the block."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for writer in self._writers:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers.append(writer)
        return reader, writer

    async def is_answered(self) -> bool:
        """Whether a new connection gets an answer. It stays open."""
        reader, writer = await self.connect()
        writer.write(GET)
        with suppress(ConnectionError):
            return await reader.read(15) == b"HTTP/1.1 200 OK"
        return False

    async def close_first(self) -> None:
        self._writers[0].close()
        await self._writers[0].wait_closed()


async def test_connections_above_the_limit_are_closed_at_once() -> None:
    """Of one address three of four are admitted. When one of them ends, the next gets in."""

    class FourConnections(BoundedProtocol):
        registry = ConnectionRegistry(max_connections=4)

    async with listening(echo, FourConnections) as port, Visitor(port) as visitor, asyncio.timeout(10):
        assert [await visitor.is_answered() for _ in range(5)] == [True] * 3 + [False] * 2
        await visitor.close_first()
        while not await visitor.is_answered():  # until the server has seen the close
            pass


async def test_an_idle_connection_gives_way_to_a_new_one() -> None:
    """At the limit the connection that has been idle longest is closed, and the others stay."""

    class FourConnections(BoundedProtocol):
        registry = ConnectionRegistry(max_connections=4)

    others = [FakeConnection(), FakeConnection()]
    for number, other in enumerate(others):
        assert FourConnections.registry.admit(other, f"other {number}")
    async with listening(echo, FourConnections) as port, Visitor(port) as visitor, asyncio.timeout(10):
        idle, _ = await visitor.connect()
        assert await visitor.is_answered()
        assert await visitor.is_answered()
        assert await idle.read() == b""
        assert not any(other.closed for other in others)
