"""From a request's body to the image files in it, within the limits and in their order.

Owns the three forms of a body (raw, multipart, JSON) and reading no more of it than is allowed.
"""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from app.errors import BadRequest, BodyTooLarge, ServiceError, TooManyImages, UnsupportedEncoding
from app.memory import Reservation

NO_IMAGE = "There is no image in the request."


@dataclass(frozen=True, slots=True)
class Upload:
    """One image file as it came: its bytes, or the error that stands in their place."""

    data: bytes | ServiceError
    filename: str | None = None


async def read_uploads(
    request: Request, max_body_bytes: int, max_images: int, reservation: Reservation
) -> list[Upload]:
    """The request's image files, at least one; their memory is put on `reservation` as they arrive.

    Raises UnsupportedEncoding, BodyTooLarge (as soon as the declared or the received bytes exceed the
    limit), TooManyImages, QueueFull and BadRequest.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise UnsupportedEncoding(f"Content-Encoding is {encoding!r}, but must be identity.")
    body = receive_body(request, max_body_bytes, reservation)
    media_type, options = parse_options_header(request.headers.get("content-type"))
    if media_type.startswith(b"multipart/"):
        uploads = await _read_multipart(body, options.get(b"boundary"), max_images)
    elif media_type == b"application/json" or media_type.endswith(b"+json"):
        # megabytes of base64 take tenths of a second, in which the event loop has others to serve
        uploads = await asyncio.to_thread(_parse_json, await _join(body), max_images)
    else:
        data = await _join(body)
        uploads = [Upload(data)] if data else []
    if not uploads:
        raise BadRequest(NO_IMAGE)
    return uploads


async def receive_body(request: Request, max_body_bytes: int, reservation: Reservation) -> AsyncIterator[bytes]:
    declared = request.headers.get("content-length", "")
    received = 0
    if declared.isdigit() and int(declared) > max_body_bytes:
        raise BodyTooLarge(f"The body has {declared} bytes, more than the allowed {max_body_bytes}.")
    async for chunk in request.stream():
        received += len(chunk)
        if received > max_body_bytes:
            raise BodyTooLarge(f"The body has more than the allowed {max_body_bytes} bytes.")
        reservation.add(len(chunk))
        yield chunk


async def _join(body: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in body])


def _parse_json(data: bytes, max_images: int) -> list[Upload]:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not valid JSON: {error}.") from error
    instances = document.get("instances") if isinstance(document, dict) else None
    if not isinstance(instances, list):
        raise BadRequest('The JSON body must be an object with a list "instances".')
    _check_count(len(instances), max_images)
    return [Upload(_decode_base64(instance)) for instance in instances]


def _decode_base64(instance: Any) -> bytes | ServiceError:
    text = instance.get("b64") if isinstance(instance, dict) else None
    if not isinstance(text, str):
        return BadRequest('The instance is not an object with a string "b64".')
    try:
        return base64.b64decode("".join(text.split()), validate=True)  # line breaks are common in base64
    except (binascii.Error, ValueError):
        return BadRequest('The instance\'s "b64" is not valid base64.')


def _check_count(images: int, max_images: int) -> None:
    if images > max_images:
        raise TooManyImages(f"The request has more than the allowed {max_images} images.")


async def _read_multipart(body: AsyncIterator[bytes], boundary: bytes | None, max_images: int) -> list[Upload]:
    if not boundary:
        raise BadRequest("The multipart body's Content-Type has no boundary.")
    parts = _Parts(max_images)
    try:
        parser = MultipartParser(boundary, parts.callbacks())  # type: ignore[arg-type]
        async for chunk in body:
            parser.write(chunk)
        parser.finalize()
    except MultipartParseError as error:
        raise BadRequest(f"The multipart body cannot be read: {error}.") from error
    if not parts.ended:
        raise BadRequest("The multipart body ends before its closing boundary.")
    return parts.uploads


@dataclass(slots=True)
class _Parts:
    """Gathers the image parts of a multipart body while it arrives; other parts are skipped."""

    max_images: int
    uploads: list[Upload] = field(default_factory=list)
    ended: bool = False
    _headers: dict[bytes, bytes] = field(default_factory=dict)
    _name: bytearray = field(default_factory=bytearray)
    _value: bytearray = field(default_factory=bytearray)
    _data: bytearray | None = None
    _filename: str | None = None

    def callbacks(self) -> dict[str, Callable[..., None]]:
        return {
            "on_part_begin": self._headers.clear,
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin_data,
            "on_part_data": self._add_data,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def _end_header(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _begin_data(self) -> None:
        _, disposition = parse_options_header(self._headers.get(b"content-disposition"))
        media_type, _ = parse_options_header(self._headers.get(b"content-type"))
        filename = disposition.get(b"filename")
        self._filename = filename.decode("utf-8", "replace") if filename else None
        is_image = filename is not None or media_type.startswith(b"image/") or media_type == b"application/octet-stream"
        if is_image:
            _check_count(len(self.uploads) + 1, self.max_images)
        self._data = bytearray() if is_image else None

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._data is not None:
            self._data += data[start:end]

    def _end_part(self) -> None:
        if self._data is not None:
            self.uploads.append(Upload(bytes(self._data), self._filename))

    def _end(self) -> None:
        self.ended = True
