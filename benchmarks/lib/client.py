"""A small HTTP/1.1 client, which takes little CPU time from the server that it measures."""

import asyncio
import time
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. `seconds` is the time from the first byte sent to the last byte received."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float


class Client:
    """One keep-alive connection to the server of a URL such as http://127.0.0.1:8000."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> None:
        """Sends a request and does not wait for its answer. Raises OSError."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        fields = {"Host": self._host, "Content-Length": str(len(body)), **headers}
        head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
        self._writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)

    async def receive(self) -> Reply:
        """The answer to what was sent. Raises ConnectionError or asyncio.IncompleteReadError."""
        assert self._reader is not None
        started = time.perf_counter()
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
        body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection") == "close":
            await self.close()
        return Reply(int(lines[0].split()[1]), headers, body, time.perf_counter() - started)

    async def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
        """Sends a request and waits for its answer."""
        started = time.perf_counter()
        await self.send(method, path, body, **headers)
        reply = await self.receive()
        return Reply(reply.status, reply.headers, reply.body, time.perf_counter() - started)

    async def close(self) -> None:
        """Closes the connection."""
        if self._writer is not None:
            self._writer.close()
            self._reader = self._writer = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
