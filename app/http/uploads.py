"""From a request's body to the image files in it, within the limits and in their order.

Owns the choice among the three forms of a body (raw, multipart, JSON), and reading no more of it than is allowed.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from starlette.requests import Request

from app.errors import BadRequest, BodyTooLarge, ServiceError, UnsupportedEncoding
from app.http.header_values import parse_header
from app.http.json_body import read_instances
from app.http.multipart import read_form
from app.http.pieces import join_pieces
from app.memory import Reservation, Share

NO_IMAGE = "There is no image in the request."


@dataclass(frozen=True, slots=True)
class Upload:
    """One image file as it came: its bytes, or the error that stands in their place.

    `share` are its bytes in the reservation of the request.
    """

    data: bytes | ServiceError
    filename: str | None
    share: Share = field(compare=False)


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
    media_type, parameters = parse_header(request.headers.get("content-type", "").encode("latin-1"))
    chunks = receive_body(request, max_body_bytes, reservation)
    files: list[tuple[bytes | ServiceError, str | None]]
    if media_type.startswith(b"multipart/"):
        files = await read_form(chunks, parameters.get(b"boundary"), max_images)
    elif media_type == b"application/json" or media_type.endswith(b"+json"):
        files = [(image, None) for image in await read_instances(await join_chunks(chunks), max_images)]
    else:
        data = await join_chunks(chunks)
        files = [(data, None)] if data else []
    if not files:
        raise BadRequest(NO_IMAGE)
    shares = reservation.split(0 if isinstance(data, ServiceError) else len(data) for data, _ in files)
    return [Upload(data, filename, share) for (data, filename), share in zip(files, shares, strict=True)]


async def receive_body(request: Request, max_body_bytes: int, reservation: Reservation) -> AsyncIterator[bytes]:
    """The body's chunks as they arrive; the server reads on when the next one is asked for.

    A chunk has at most 64 KiB and what was read from the socket at once, which is 256 KiB. Raises BodyTooLarge and
    QueueFull.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_body_bytes:
        raise BodyTooLarge(f"The body has {declared} bytes, more than the allowed {max_body_bytes}.")
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > max_body_bytes:
            raise BodyTooLarge(f"The body has more than the allowed {max_body_bytes} bytes.")
        reservation.add(len(chunk))
        yield chunk


async def join_chunks(chunks: AsyncIterator[bytes]) -> bytes:
    """The whole body."""
    return await join_pieces([chunk async for chunk in chunks])
