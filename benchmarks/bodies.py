"""What large request bodies and large answers cost: stall of the event loop, CPU time, memory.

`python -m benchmarks.bodies` reads each body as the routes do, in chunks of 64 KiB, and builds answers as they do.
`at once` bodies are read at the same time. Needs no server and no checkpoint.
"""

import argparse
import asyncio
import base64
import random
import re
from collections.abc import AsyncIterator, Iterator

import uvloop
from starlette.requests import Request
from starlette.types import Message

from app.errors import ServiceError
from app.http.uploads import read_uploads
from app.memory import BodyMemory
from benchmarks.lib.loop_stall import measure_cpu_milliseconds_of, measure_peak_megabytes, measure_stall_milliseconds
from benchmarks.lib.report import describe_machine, format_table

MEBIBYTE = 2**20
MAX_IMAGES = 64
FORM, JSON = "multipart/form-data; boundary=xyz", "application/json"
FILE = b'--xyz\r\nContent-Disposition: form-data; name="a"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
SMALL_PART = b"--xyz\r\n" + b"".join(b"X-Header-%d: value\r\n" % n for n in range(8)) + b"\r\nx\r\n"


def make_bodies(megabytes: int) -> Iterator[tuple[str, bytes, str]]:
    """Yields the name, body and content type of each."""
    size = megabytes * MEBIBYTE
    image = random.Random(0).randbytes(size)
    text = base64.b64encode(image[: size // 4 * 3])
    short = base64.b64encode(image[: size // 4 * 3 // MAX_IMAGES])
    yield "an image of 5 KB", image[:5_000], "image/jpeg"
    yield "form of 8 images of 5 KB", _form([image[:5_000]] * 8), FORM
    yield "JSON, an image of 5 KB", _json([base64.b64encode(image[:5_000])]), JSON
    yield f"an image of {megabytes} MiB", image, "image/jpeg"
    yield f"form of one image, {megabytes} MiB", _form([image]), FORM
    yield f"form of 64 images, {megabytes} MiB", _form([image[: size // MAX_IMAGES]] * MAX_IMAGES), FORM
    yield f"form of parts with 8 headers, {megabytes} MiB", SMALL_PART * (size // len(SMALL_PART)) + b"--xyz--", FORM
    yield f"form of near boundaries, {megabytes} MiB", FILE + b"\r\n--xyz-" * (size // 8) + b"\r\n--xyz--", FORM
    yield f"JSON, one image, {megabytes} MiB", _json([text]), JSON
    yield f"JSON, 64 images, {megabytes} MiB", _json([short] * MAX_IMAGES), JSON
    yield f"JSON, {{}},{{}},…, {megabytes} MiB", b'{"instances":[' + b"{}," * (size // 3) + b"{}]}", JSON
    yield f"JSON, [[[…, {megabytes} MiB", b"[" * size, JSON
    yield f"JSON, escaped quotes, {megabytes} MiB", b'{"instances":[{"b64":"' + b'\\"' * (size // 2) + b'"}]}', JSON


def _form(images: list[bytes]) -> bytes:
    return b"\r\n".join([*(FILE + image for image in images), b"--xyz--\r\n"])


def _json(texts: list[bytes]) -> bytes:
    return b'{"instances":[' + b",".join(b'{"b64":"%b"}' % text for text in texts) + b"]}"


async def read(body: bytes, media_type: str) -> str:
    """Reads a body as a route does. Returns the number of images or the error's code."""

    async def arrive() -> AsyncIterator[Message]:
        for start in range(0, len(body), 65_536):
            await asyncio.sleep(0)  # as for the socket
            yield {"type": "http.request", "body": body[start : start + 65_536], "more_body": True}
        yield {"type": "http.request", "body": b"", "more_body": False}

    messages = arrive()
    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", media_type.encode())]}
    try:
        with BodyMemory(10**9, 10**9).reserve(None) as reservation:
            uploads = await read_uploads(
                Request(scope, lambda: anext(messages)), 64 * MEBIBYTE, MAX_IMAGES, reservation
            )
            return f"{len(uploads)} images"
    except ServiceError as error:
        return f"{error.status} {error.code}"


async def measure_bodies(megabytes: int, at_once: int, rounds: int, pattern: str) -> None:
    """Prints a row for each body whose name matches the regular expression."""
    rows = []
    for name, body, media_type in make_bodies(megabytes):
        if not re.search(pattern, name):
            continue
        many = lambda body=body, media_type=media_type: asyncio.gather(  # noqa: E731
            *(read(body, media_type) for _ in range(at_once))
        )
        one = lambda body=body, media_type=media_type: read(body, media_type)  # noqa: E731
        repeats = rounds if len(body) > MEBIBYTE else 100 * rounds
        rows.append(
            (
                name,
                await read(body, media_type),
                f"{await measure_stall_milliseconds(many, rounds):.1f}",
                f"{await measure_cpu_milliseconds_of(one, repeats):.3f}",
                f"{await measure_peak_megabytes(one):.1f}",
            )
        )
    print(format_table(("body", "answer", f"longest stall, {at_once} at once, ms", "CPU ms", "peak MiB"), *rows))


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=31, help="of the large bodies (default: 31)")
    parser.add_argument("--at-once", type=int, default=3, help="bodies that are read at the same time (default: 3)")
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement (default: 5)")
    parser.add_argument("--only", default="", metavar="PATTERN", help="bodies whose name has it (default: all)")
    arguments = parser.parse_args()
    uvloop.run(measure_bodies(arguments.megabytes, arguments.at_once, arguments.rounds, arguments.only))
    print(f"\n{describe_machine('orjson', 'uvloop')}")


if __name__ == "__main__":
    main()
