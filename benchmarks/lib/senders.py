"""The ways in which an attack sends: one or many connections, whole or slow, pieces of a request or too many of it.

Each function gives another one that runs the attack against a target.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from benchmarks.lib.raw import Exchange, Target, reset, send_and_read, summarise

MB = 2**20
MALFORMED = (
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
    b"GET / HTTP/1.1\nHost: x\n\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x00\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"\x16\x03\x01\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)


@dataclass(frozen=True, slots=True)
class Result:
    """The bytes that the attack sent, and the answers as text."""

    sent: int
    answer: str


Run = Callable[[Target], Result]


def one(*pieces: bytes, seconds: float = 30.0, half_close: bool = False) -> Run:
    """One connection that sends bytes as they are."""
    return many(1, lambda _: iter(pieces), seconds, half_close=half_close)


def many(
    count: int, pieces: Callable[[Target], Iterator[bytes]], seconds: float = 30.0, *, half_close: bool = False
) -> Run:
    """Several connections at once, each with its own pieces."""

    def run(target: Target) -> Result:
        done: list[Exchange] = []

        def send() -> None:
            with suppress(OSError):
                done.append(send_and_read(target, pieces(target), seconds, half_close=half_close))

        threads = [threading.Thread(target=send) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return Result(sum(exchange.sent for exchange in done), summarise(done))

    return run


def post(body: bytes, media_type: str = "image/png", count: int = 1) -> Run:
    """A whole request to /predict, from one or several connections at once."""
    return many(
        count,
        lambda target: iter((target.head("POST", "/predict", f"Content-Type: {media_type}", length=len(body)), body)),
    )


def post_made(make: Callable[[], bytes], count: int = 1) -> Run:
    """The same with a body that is made only then."""
    return lambda target: post(make(), count=count)(target)


def chunked(*pieces: bytes) -> Run:
    """A chunked request to /predict."""
    return many(1, lambda target: iter((target.head("POST", "/predict", "Transfer-Encoding: chunked"), *pieces)))


def drip(begin: Callable[[Target], bytes], seconds: float, count: int) -> Run:
    """Several connections that send a beginning, and then a byte each half second."""

    def pieces(target: Target) -> Iterator[bytes]:
        yield begin(target)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.5)
            yield b"a"

    return many(count, pieces, seconds + 5)


def send_malformed(target: Target) -> Result:
    """Each of MALFORMED, followed by a request that must not be answered."""
    done = [send_and_read(target, (request, target.head("GET", "/health/live"))) for request in MALFORMED]
    return Result(sum(exchange.sent for exchange in done), summarise(done))


def smuggle_by_upgrade(target: Target) -> Result:
    """The body of a request that asks for an upgrade is a request, in a second packet."""
    body = target.head("GET", "/metrics")

    def pieces() -> Iterator[bytes]:
        yield target.head("POST", "/predict", "Upgrade: h2c", "Connection: Upgrade", length=len(body))
        time.sleep(0.3)
        yield body

    done = send_and_read(target, pieces())
    return Result(done.sent, done.summary())


def hold_open(count: int) -> Run:
    """Connections without a request, while others must be answered."""

    def run(target: Target) -> Result:
        held: list[socket.socket] = []
        try:
            with suppress(OSError):
                held.extend(target.connect() for _ in range(count))
            time.sleep(1)
            answer = send_and_read(target, [target.head("GET", "/health/live")])
            return Result(answer.sent, answer.summary())
        finally:
            for connection in held:
                connection.close()

    return run


def never_read(count: int, seconds: float) -> Run:
    """Connections that ask and ask and take no byte of the answers. The server must close them."""

    def run(target: Target) -> Result:
        held, sent, closed = [target.connect(receive_buffer=4096) for _ in range(count)], 0, 0
        request = target.head("GET", "/openapi.json")
        until = time.monotonic() + seconds
        for connection in held:
            connection.setblocking(False)
        while held and time.monotonic() < until:
            time.sleep(0.05)
            for connection in list(held):
                try:
                    sent += connection.send(request)
                except BlockingIOError:
                    pass
                except OSError:
                    closed += 1
                    held.remove(connection)
                    connection.close()
        for connection in held:
            connection.close()
        return Result(sent, f"closed x{closed}" + (f", still open x{len(held)}" if held else ""))

    return run


def hang_up(count: int) -> Run:
    """Clients that leave in the middle of a body, half of them with a reset. Then nothing must be in flight."""

    def run(target: Target) -> Result:
        sent = 0
        for number in range(count):
            with suppress(OSError):
                connection = target.connect()
                connection.sendall(target.head("POST", "/predict", length=MB) + bytes(100_000))
                sent += 100_000
                if number % 2:
                    reset(connection)
                else:
                    connection.close()
        time.sleep(0.5)
        metrics = send_and_read(target, [target.head("GET", "/metrics")]).received.decode("latin-1")
        # A probe and an image of others may be in flight at that moment, and this request itself is.
        left = [float(line.split()[1]) for line in metrics.splitlines() if line.startswith("vgg_requests_in_flight ")]
        return Result(sent, "none in flight" if left and left[0] <= 3 else f"in flight: {left}")

    return run


def form_of_small_parts(size: int) -> bytes:
    """Parts of a few bytes with eight headers each, and no image."""
    part = b"--x\r\n" + b"".join(b"h%d: v\r\n" % i for i in range(8)) + b"\r\n1\r\n"
    return part * (size // len(part)) + b"--x--\r\n"


def begin_slow_body(target: Target) -> bytes:
    """The head of a request with a deadline of two seconds."""
    return target.head("POST", "/predict", "X-Request-Timeout: 2", length=MB)


def send_in_turn(request: bytes, count: int) -> Run:
    """One connection after the other, each of which the server closes."""

    def run(target: Target) -> Result:
        done = [send_and_read(target, [request], quiet=30) for _ in range(count)]
        return Result(sum(exchange.sent for exchange in done), summarise(done))

    return run
