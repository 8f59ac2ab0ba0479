"""Raw connections to a server, for requests that no client library would send."""

import re
import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) (?!Continue)")
CODE = re.compile(rb'"code":"(\w+)"')


@dataclass(frozen=True, slots=True)
class Target:
    """A server, and its API key if it has one."""

    host: str
    port: int
    key: str = ""

    def connect(self, receive_buffer: int | None = None) -> socket.socket:
        """A connection. Raises OSError."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(10)
        try:
            connection.connect((self.host, self.port))
        except OSError:
            connection.close()
            raise
        return connection

    def head(self, method: str, path: str, *lines: str, length: int | None = None) -> bytes:
        """The head of a request with the key."""
        fields = [f"{method} {path} HTTP/1.1", "Host: attack", *lines]
        fields += [f"X-API-Key: {self.key}"] if self.key else []
        fields += [f"Content-Length: {length}"] if length is not None else []
        return "".join(f"{field}\r\n" for field in fields).encode() + b"\r\n"


@dataclass(frozen=True, slots=True)
class Exchange:
    """What was sent and what came back. `ended` says whether the server has closed."""

    sent: int
    received: bytes
    ended: bool

    def summary(self) -> str:
        """Statuses and codes with their numbers, as `200 x17`, or what happened instead of an answer."""
        return summarise([self])


def summarise(exchanges: Iterable[Exchange]) -> str:
    """All answers of several connections."""
    counts: Counter[str] = Counter()
    for exchange in exchanges:
        statuses = [status.decode() for status in STATUS.findall(exchange.received)]
        codes = [code.decode() for code in CODE.findall(exchange.received)]
        if len(statuses) == 1 and codes:
            statuses = [f"{statuses[0]} {codes[0]}"]
        counts.update(statuses or ["closed" if exchange.ended else "no answer"])
    return ", ".join(name if number == 1 else f"{name} x{number}" for name, number in sorted(counts.items()))


def send_and_read(
    target: Target, pieces: Iterable[bytes], seconds: float = 30.0, *, quiet: float = 0.5, half_close: bool = False
) -> Exchange:
    """Sends the pieces while it reads, and reads on until the server closes, or has answered and is quiet.

    A client that half-closes waits until the server closes too.
    """
    sent, received, ended = 0, b"", False
    connection = target.connect()
    deadline = time.monotonic() + seconds
    with connection:
        connection.setblocking(False)
        waiting, source, sending = memoryview(b""), iter(pieces), True
        poll = select.poll()
        poll.register(connection)
        while not ended and (left := deadline - time.monotonic()) > 0:
            if sending and not waiting:
                piece = next(source, None)
                sending, waiting = piece is not None, memoryview(piece or b"")
                if not sending and half_close:
                    connection.shutdown(socket.SHUT_WR)
            answered = not sending and not half_close and STATUS.search(received)
            pause = min(left, quiet) if answered else left
            poll.modify(connection, select.POLLIN | (select.POLLOUT if sending else 0))
            events = poll.poll(1000 * pause)
            if not events:
                break
            try:
                if events[0][1] & ~select.POLLOUT:
                    data = connection.recv(65536)
                    received, ended = received + data, not data
                elif waiting:
                    count = connection.send(waiting[: 2**20])
                    sent, waiting = sent + count, waiting[count:]
            except BlockingIOError:
                pass
            except OSError:
                ended = True
                with suppress(OSError):
                    while data := connection.recv(65536):
                        received += data
    return Exchange(sent, received, ended)


def reset(connection: socket.socket) -> None:
    """Closes with a reset, as a client that crashes."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
