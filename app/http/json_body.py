"""JSON bodies: the images of `{"instances": [{"b64": "…"}, …]}`.

Owns what an instance must be, and the limits of such a body. The instances are counted before any object is made, and
base64 is decoded in slices, between which the event loop serves others.
"""

import asyncio
from typing import Any

import orjson

from app.errors import BadRequest, ServiceError, TooManyImages
from app.http.json_outline import JsonOutline, OutlineTooLong
from app.http.pieces import join_pieces
from app.http.strict_base64 import Base64Decoder

OUTLINE_BYTES = 4 * 1024  # outside of strings, at most
OUTLINE_BYTES_PER_IMAGE = 512  # and for each allowed image as much more
INSTANCES_PER_IMAGE = 4  # that are counted as instances at least, where a body has too much outside of strings
SLICE_BYTES = 128 * 1024  # decoded in half a millisecond
_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}


async def read_instances(body: bytes, max_images: int) -> list[bytes | ServiceError]:
    """Each instance's image, or the error in its place. Raises BadRequest and TooManyImages."""
    max_bytes = OUTLINE_BYTES + OUTLINE_BYTES_PER_IMAGE * max_images
    too_many = TooManyImages(f"The request has more than the allowed {max_images} images.")
    try:
        outline = await JsonOutline.read(body, max_bytes)
    except OutlineTooLong as error:
        if await error.count_elements() > INSTANCES_PER_IMAGE * max_images:
            raise too_many from error
        raise
    document = outline.document
    instances = outline.member(document, "instances") if isinstance(document, dict) else None
    if not isinstance(instances, list):
        raise BadRequest('The JSON body must be an object with a list "instances".')
    if len(instances) > max_images:
        raise too_many
    return [await _read_instance(outline, instance) for instance in instances]


async def _read_instance(outline: JsonOutline, instance: Any) -> bytes | ServiceError:
    if not isinstance(instance, dict):
        return BadRequest(f'The instance is {_name(instance)}, but must be an object with a string "b64".')
    try:
        text = outline.member(instance, "b64")
    except BadRequest as error:
        return error.without_traceback()
    if not isinstance(text, str):
        return BadRequest(f'The instance\'s "b64" is {_name(text)}, but must be a string.')
    decoder = Base64Decoder()
    try:
        await _decode(outline.text, *outline.span(text), decoder)
    except ValueError as error:
        return BadRequest(f'The instance\'s "b64" {error}.')
    return await join_pieces(decoder.pieces) or BadRequest("The image has no bytes.")


async def _decode(text: bytes, start: int, end: int, decoder: Base64Decoder) -> None:
    if end - start > SLICE_BYTES // 8:  # a request may have many that are smaller than a slice
        await asyncio.sleep(0)
    while start < end:
        stop = end if end - start <= SLICE_BYTES else _whole_characters(text, start + SLICE_BYTES)
        try:
            decoder.feed(orjson.loads(b'"%b"' % text[start:stop]))
        except orjson.JSONDecodeError as error:
            raise BadRequest(f"The body is not valid JSON: {error.msg} in the string at byte {start}.") from error
        start = stop
        if start < end:
            await asyncio.sleep(0)
    decoder.close()


def _whole_characters(text: bytes, stop: int) -> int:
    """`stop`, or the beginning of the character or escape sequence that it would cut in two.

    More than 64 backslashes in a row may be cut wrongly. They are no base64 in either case.
    """
    for _ in range(3):  # a character of UTF-8 has up to four bytes
        stop -= text[stop] & 0xC0 == 0x80
    window = text[stop - 64 : stop]
    if _ends_with_escape(window):
        return stop - 1
    escape = window.rfind(b"\\u", -5)
    if escape >= 0 and _ends_with_escape(window[: escape + 1]):
        return stop - (len(window) - escape)
    return stop


def _ends_with_escape(window: bytes) -> bool:
    """Whether the last byte is a backslash that escapes what follows."""
    return (len(window) - len(window.rstrip(b"\\"))) % 2 == 1


def _name(value: Any) -> str:
    return _NAMES.get(type(value), "a number")
