"""A request's body, and what can be in it: a coding, JSON, base64.

Owns that neither a small body nor a small document becomes large in memory without a limit.
"""

import asyncio
import re
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, fields, replace
from typing import Any, ParamSpec, TypeVar

import orjson
from starlette.requests import Request

from app.errors import BadRequest, BodyTooLarge, TooManyImages, UnsupportedEncoding
from app.http.inference import Inference
from app.http.strict_base64 import Base64Decoder
from app.http.uploads import join_chunks, receive_body

WINDOW_BITS = {"deflate": 15, "gzip": 31}  # of zlib, for each coding (RFC 9110, section 8.4.1)
CODINGS = ("identity", *WINDOW_BITS)
STEP_BYTES = 2**18  # that are inflated at once: about a millisecond, in which the event loop does nothing else
VALUE_BYTES = 32  # of a float in a list of Python's, where its JSON has two bytes at least
BYTES_PER_VALUE = 8  # of the largest body; so its values take at most four times its bytes in memory
SMALL_JSON_BYTES = 2**16  # parsed in less time than a thread needs to start
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
P = ParamSpec("P")
T = TypeVar("T")


async def read_body(inference: Inference) -> bytes:
    """The request's body without its coding, which may be gzip or deflate.

    Its memory is put on the reservation as it arrives. Raises UnsupportedEncoding, BadRequest, QueueFull and
    BodyTooLarge, the last as soon as the declared, the received or the inflated bytes exceed the limit.
    """
    request, limit = inference.request, inference.settings.max_body_bytes
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in CODINGS:
        raise UnsupportedEncoding(f"Content-Encoding is {coding!r}, but must be one of {', '.join(CODINGS)}.")
    body = receive_body(request, limit, inference.reservation)
    if coding in WINDOW_BITS:
        body = _inflate(body, coding, limit, inference.reservation.add)
    return await join_chunks(body)


async def _inflate(
    body: AsyncIterator[bytes], coding: str, limit: int, reserve: Callable[[int], None]
) -> AsyncIterator[bytes]:
    stream, size = zlib.decompressobj(WINDOW_BITS[coding]), 0
    async for chunk in body:
        rest = chunk
        while True:
            try:
                data = stream.decompress(rest, STEP_BYTES)
            except zlib.error as error:
                raise BadRequest(f"The body is not valid {coding}: {error}.") from error
            size += len(data)
            if size > limit:
                raise BodyTooLarge(f"The body has, inflated, more than the allowed {limit} bytes.")
            reserve(len(data))
            yield data
            rest = stream.unconsumed_tail
            if len(data) < STEP_BYTES:  # all of the chunk is inflated
                break
            await asyncio.sleep(0)
    if stream.unused_data:
        raise BadRequest(f"The body has bytes behind the end of its {coding} stream.")
    if not stream.eof:
        raise BadRequest(f"The body ends before its {coding} stream does.")


def choose_coding(request: Request) -> str:
    """The coding of the answer: gzip or deflate if the client accepts it, else identity (RFC 9110, section 12.5.3)."""
    accepted = {}
    for item in request.headers.get("accept-encoding", "").lower().split(","):
        name, _, parameters = item.partition(";")
        accepted[name.strip()] = re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", parameters) is None
    return next((coding for coding in ("gzip", "deflate") if accepted.get(coding)), "identity")


def encode(data: bytes, coding: str) -> bytes:
    """The data in a coding that `choose_coding` gave."""
    if coding == "identity":
        return data
    stream = zlib.compressobj(1, zlib.DEFLATED, WINDOW_BITS[coding])
    return stream.compress(data) + stream.flush()


@dataclass(frozen=True, slots=True)
class JsonLimits:
    """How many values a JSON document may have, and how many arrays and objects among them."""

    values: int = 256
    arrays: int = 64
    objects: int = 64


async def parse_json(inference: Inference, data: bytes, limits: JsonLimits) -> Any:
    """The document in `data`. Raises BadRequest, QueueFull, and TooManyImages for more than `limits`.

    Values are counted before they are parsed: two bytes of JSON may become a hundred in memory.
    """
    counts = await run_by_size(len(data), _count_values, data)
    limits = replace(limits, values=min(limits.values, inference.settings.max_body_bytes // BYTES_PER_VALUE))
    for field in fields(limits):
        count, limit = getattr(counts, field.name), getattr(limits, field.name)
        if count > limit:
            raise TooManyImages(f"The JSON document has {count} {field.name}, more than the allowed {limit}.")
    inference.reservation.add(VALUE_BYTES * counts.values)
    return await run_by_size(len(data), _load, data)


async def run_by_size(json_bytes: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls `function` on what came as so many bytes of JSON: in a thread, unless they are few."""
    if json_bytes <= SMALL_JSON_BYTES:
        return function(*args, **kwargs)
    return await asyncio.to_thread(function, *args, **kwargs)


def _count_values(data: bytes) -> JsonLimits:
    """At least the numbers of values, arrays and objects: strings may have the same characters.

    Each value but the first is the first one of its array or object, or it follows a comma.
    """
    arrays, objects = data.count(b"["), data.count(b"{")
    return JsonLimits(1 + data.count(b",") + arrays + objects, arrays, objects)


def _load(data: bytes) -> Any:
    try:
        return orjson.loads(data.removeprefix(BYTE_ORDER_MARK))
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not valid JSON: {error}.") from error


def decode_base64(text: str, where: str) -> bytes:
    """The bytes of an image in base64, as `strict_base64` reads it. `where` names the text in errors.

    It decodes in steps, between which other threads run. Raises BadRequest.
    """
    decoder = Base64Decoder()
    try:
        for start in range(0, len(text), STEP_BYTES):
            decoder.feed(text[start : start + STEP_BYTES])
        decoder.close()
    except ValueError as error:
        raise BadRequest(f"{where} {error}.") from error
    data = b"".join(decoder.pieces)
    if not data:
        raise BadRequest(f"{where} has no bytes.")
    return data
