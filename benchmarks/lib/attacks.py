"""What a stranger with a grudge would send: each attack with the answers that are right."""

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import repeat

from benchmarks.lib.dear_images import make_dear_images, make_sound_image
from benchmarks.lib.raw import Exchange, Target, reset, send_and_read, summarise

MB = 2**20
TOO_LARGE, BAD = r"431 headers_too_large", r"400 bad_request"
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


@dataclass(frozen=True, slots=True)
class Attack:
    """`right` is a regular expression that the whole answer must match."""

    kind: str
    name: str
    right: str
    run: Callable[[Target], Result]


def one(*pieces: bytes, seconds: float = 30.0, half_close: bool = False) -> Callable[[Target], Result]:
    """One connection that sends bytes as they are."""
    return many(1, lambda _: iter(pieces), seconds, half_close=half_close)


def many(
    count: int, pieces: Callable[[Target], Iterator[bytes]], seconds: float = 30.0, *, half_close: bool = False
) -> Callable[[Target], Result]:
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


def post(body: bytes, media_type: str = "image/png", count: int = 1) -> Callable[[Target], Result]:
    """A whole request to /predict, from one or several connections at once."""
    return many(
        count,
        lambda target: iter((target.head("POST", "/predict", f"Content-Type: {media_type}", length=len(body)), body)),
    )


def chunked(*pieces: bytes) -> Callable[[Target], Result]:
    """A chunked request to /predict."""
    return many(1, lambda target: iter((target.head("POST", "/predict", "Transfer-Encoding: chunked"), *pieces)))


def drip(begin: Callable[[Target], bytes], seconds: float, count: int) -> Callable[[Target], Result]:
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


def hold_open(count: int) -> Callable[[Target], Result]:
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


def never_read(count: int, seconds: float) -> Callable[[Target], Result]:
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


def hang_up(count: int) -> Callable[[Target], Result]:
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


def make_attacks(*, keys: bool) -> Iterator[Attack]:
    """Every attack, in an order from the cheap to the dear. With `keys` those too that need API keys."""
    get, sound = b"GET /health/live HTTP/1.1\r\nHost: x\r\n", make_sound_image()
    form, spaces = "multipart/form-data; boundary=x", base64.b64encode(b"\xfb\xef\xbe" * 300).replace(b"+", b" ")
    flood = repeat(b"a" * MB, 24)
    yield Attack("head", "one header of 24 MiB", TOO_LARGE, one(get + b"X: ", *flood))
    yield Attack("head", "24 MiB of headers", TOO_LARGE, one(get, *repeat(b"a: b\r\n" * (MB // 6), 24)))
    yield Attack("head", "a target of 24 MiB", TOO_LARGE, one(b"GET /", *repeat(b"a" * MB, 24)))
    yield Attack("head", "24 MiB of empty lines", TOO_LARGE, one(*repeat(b"\r\n" * (MB // 2), 24)))
    yield Attack(
        "head", "24 MiB of trailers", TOO_LARGE, chunked(b"5\r\nhello\r\n0\r\n", *repeat(b"a: b\r\n" * 170_000, 24))
    )
    yield Attack("head", "a chunk's extension of 24 MiB", TOO_LARGE, chunked(b"5;", *repeat(b"a" * MB, 24)))
    yield Attack("head", "slow heads, 100 at once", r"431 headers_too_large x100", drip(lambda _: get, 12, 100))
    yield Attack(
        "head", "slow request lines, 100 at once", r"431 headers_too_large x100", drip(lambda _: b"GET /", 12, 100)
    )
    yield Attack("request", f"{len(MALFORMED)} malformed heads", rf"{BAD} x{len(MALFORMED)}", send_malformed)
    yield Attack("request", "10 MiB of pipelined requests", r"200( x\d+)?", one(*repeat((get + b"\r\n") * 27_000, 10)))
    yield Attack("request", "an upgrade with a second request", r"415 unsupported_format", smuggle_by_upgrade)
    yield Attack("body", "slow bodies, 100 at once", r"504 deadline_exceeded x100", drip(_begin_slow_body, 6, 100))
    yield Attack("body", "40 MB", r"413 body_too_large", post(bytes(40_000_000)))
    yield Attack(
        "body", "40 MiB in chunks", r"413 body_too_large", chunked(*repeat(b"100000\r\n" + bytes(MB) + b"\r\n", 40))
    )
    yield Attack("body", "20 MiB in chunks of one byte", TOO_LARGE, chunked(*repeat(b"1\r\na\r\n" * (MB // 6), 20 * 6)))
    yield Attack(
        "body",
        "form of 31 MiB of small parts, 3 at once",
        r"413 too_many_images x3|400 bad_request x3",
        post(form_of_small_parts(31 * MB), form, 3),
    )
    yield Attack(
        "body", "form with a boundary of 300", BAD, post(b"--x--", "multipart/form-data; boundary=" + "x" * 300)
    )
    yield Attack(
        "body",
        "JSON of a million instances",
        r"413 too_many_images",
        post(b'{"instances":[' + b"{}," * 10**6 + b"{}]}", "application/json"),
    )
    yield Attack(
        "body",
        "JSON of 10 million lists",
        r"413 too_many_images|400 bad_request",
        post(b'{"instances":' + b"[" * 10**7, "application/json"),
    )
    yield Attack(
        "body",
        "base64 whose + became spaces",
        BAD,
        post(json.dumps({"instances": [{"b64": spaces.decode()}]}).encode(), "application/json"),
    )
    for name, data, right in make_dear_images():
        yield Attack("image", name, right, post(data))
    yield Attack("image", "8 JPEGs of 1,500 scans at once", r"422 undecodable_image x8", post(_scans(), count=8))
    yield Attack("connection", "2,000 held open", r"200", hold_open(2000))
    yield Attack(
        "connection",
        "200 half-closed clients",
        r"200 x200",
        many(200, lambda target: iter((target.head("POST", "/predict", length=len(sound)), sound)), half_close=True),
    )
    yield Attack("connection", "200 that hang up in a body", r"none in flight", hang_up(200))
    yield Attack("connection", "20 that never read", r"closed x20", never_read(20, 40))
    if keys:
        wrong = (
            b"POST /predict HTTP/1.1\r\nHost: x\r\nX-API-Key: wrong\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )
        yield Attack("connection", "2,000 wrong keys", r"401 unauthorized x2000", _send_in_turn(wrong, 2000))


def _begin_slow_body(target: Target) -> bytes:
    return target.head("POST", "/predict", "X-Request-Timeout: 2", length=MB)


def _scans() -> bytes:
    return next(data for name, data, _ in make_dear_images() if "scans" in name)


def _send_in_turn(request: bytes, count: int) -> Callable[[Target], Result]:
    def run(target: Target) -> Result:
        done = [send_and_read(target, [request], quiet=30) for _ in range(count)]
        return Result(sum(exchange.sent for exchange in done), summarise(done))

    return run
