"""What a stranger with a grudge would send: every attack with the answers that are right."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat

from benchmarks.lib.dear_images import list_dear_images, make_scans, make_sound_image
from benchmarks.lib.raw import Target
from benchmarks.lib.senders import (
    MALFORMED,
    MB,
    Run,
    begin_slow_body,
    chunked,
    drip,
    form_of_small_parts,
    hang_up,
    hold_open,
    many,
    never_read,
    one,
    post,
    post_made,
    send_in_turn,
    send_malformed,
    smuggle_by_upgrade,
)

TOO_LARGE, BAD, TOO_MANY = "431 headers_too_large", "400 bad_request", "413 too_many_images"
FORM_OF_X = "multipart/form-data; boundary=x"
GET = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"


@dataclass(frozen=True, slots=True)
class Attack:
    """`right` is a regular expression that the whole answer must match."""

    kind: str
    name: str
    right: str
    run: Run


def make_attacks(*, keys: bool) -> Iterator[Attack]:
    """Every attack, in an order from the cheap to the dear. With `keys` those too that need API keys."""
    yield from _attack_heads()
    yield from _attack_bodies()
    yield from _attack_with_images()
    yield from _attack_with_connections(keys=keys)


def _attack_heads() -> Iterator[Attack]:
    letters, headers = (b"a" * MB,) * 24, (b"a: b\r\n" * (MB // 6),) * 24
    yield Attack("head", "one header of 24 MiB", TOO_LARGE, one(GET + b"X: ", *letters))
    yield Attack("head", "24 MiB of headers", TOO_LARGE, one(GET, *headers))
    yield Attack("head", "a target of 24 MiB", TOO_LARGE, one(b"GET /", *letters))
    yield Attack("head", "24 MiB of empty lines", TOO_LARGE, one(*(b"\r\n" * (MB // 2),) * 24))
    yield Attack("head", "24 MiB of trailers", TOO_LARGE, chunked(b"5\r\nhello\r\n0\r\n", *headers))
    yield Attack("head", "a chunk's extension of 24 MiB", TOO_LARGE, chunked(b"5;", *letters))
    yield Attack("head", "slow heads, 100 at once", f"{TOO_LARGE} x100", drip(lambda _: GET, 12, 100))
    yield Attack("head", "slow request lines, 100 at once", f"{TOO_LARGE} x100", drip(lambda _: b"GET /", 12, 100))
    yield Attack("request", f"{len(MALFORMED)} malformed heads", f"{BAD} x{len(MALFORMED)}", send_malformed)
    pipelined = (GET + b"\r\n") * 27_000
    yield Attack("request", "10 MiB of pipelined requests", r"200( x\d+)?", one(*repeat(pipelined, 10)))
    yield Attack("request", "an upgrade with a second request", "415 unsupported_format", smuggle_by_upgrade)


def _attack_bodies() -> Iterator[Attack]:
    too_large, json_type = "413 body_too_large", "application/json"
    yield Attack("body", "slow bodies, 100 at once", "504 deadline_exceeded x100", drip(begin_slow_body, 6, 100))
    yield Attack("body", "40 MB", too_large, post(bytes(40_000_000)))
    yield Attack("body", "40 MiB in chunks", too_large, chunked(*repeat(b"100000\r\n" + bytes(MB) + b"\r\n", 40)))
    yield Attack("body", "20 MiB in chunks of one byte", TOO_LARGE, chunked(*repeat(b"1\r\na\r\n" * (MB // 6), 120)))
    parts = form_of_small_parts(31 * MB)
    right = f"{TOO_MANY} x3|{BAD} x3"
    yield Attack("body", "form of 31 MiB of small parts, 3 at once", right, post(parts, FORM_OF_X, 3))
    yield Attack("body", "form with a boundary of 300", BAD, post(b"--x--", FORM_OF_X + "x" * 299))
    instances = b'{"instances":[' + b"{}," * 10**6 + b"{}]}"
    yield Attack("body", "JSON of a million instances", TOO_MANY, post(instances, json_type))
    deep = b'{"instances":' + b"[" * 10**7
    yield Attack("body", "JSON of 10 million lists", f"{TOO_MANY}|{BAD}", post(deep, json_type))
    spaces = base64.b64encode(b"\xfb\xef\xbe" * 300).replace(b"+", b" ").decode()
    body = json.dumps({"instances": [{"b64": spaces}]}).encode()
    yield Attack("body", "base64 whose + became spaces", BAD, post(body, json_type))


def _attack_with_images() -> Iterator[Attack]:
    for name, make, right in list_dear_images():
        yield Attack("image", name, right, post_made(make))
    scans = post_made(lambda: make_scans(1500, (1000, 1000)), 8)
    yield Attack("image", "8 JPEGs of 1,500 scans at once", "422 undecodable_image x8", scans)


def _attack_with_connections(*, keys: bool) -> Iterator[Attack]:
    sound = make_sound_image()

    def post_sound(target: Target) -> Iterator[bytes]:
        yield target.head("POST", "/predict", length=len(sound)) + sound

    yield Attack("connection", "2,000 held open", "200", hold_open(2000))
    yield Attack("connection", "200 half-closed clients", "200 x200", many(200, post_sound, half_close=True))
    yield Attack("connection", "200 that hang up in a body", "none in flight", hang_up(200))
    yield Attack("connection", "20 that never read", "closed x20", never_read(20, 40))
    if keys:
        wrong = b"POST /predict HTTP/1.1\r\nHost: x\r\nX-API-Key: wrong\r\nConnection: close\r\n\r\n"
        yield Attack("connection", "2,000 wrong keys", "401 unauthorized x2000", send_in_turn(wrong, 2000))
