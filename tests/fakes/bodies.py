"""Requests whose body arrives in chunks, and forms."""

from collections.abc import Iterable

from starlette.requests import Request
from starlette.types import Message

BOUNDARY = "xyz"
FORM_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
FILE = 'form-data; name="a"; filename="a.png"'


class Body:
    """A request whose body arrives in the given chunks, and which knows how many were asked for."""

    def __init__(self, chunks: Iterable[bytes], **headers: str) -> None:
        self.chunks = list(chunks)
        self.taken = 0
        raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
        self.request = Request({"type": "http", "method": "POST", "headers": raw}, self._receive)

    async def _receive(self) -> Message:
        chunk = self.chunks[self.taken]
        self.taken += 1
        return {"type": "http.request", "body": chunk, "more_body": self.taken < len(self.chunks)}


def make_part(data: bytes, disposition: str | bytes | None = FILE, *headers: str) -> bytes:
    """A part of a form with its boundary before it."""
    shown = disposition.encode() if isinstance(disposition, str) else disposition
    lines = [f"--{BOUNDARY}".encode(), *([b"Content-Disposition: " + shown] if shown is not None else [])]
    return b"\r\n".join([*lines, *(header.encode() for header in headers), b"", data, b""])


def make_form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def cut(data: bytes, sizes: Iterable[int]) -> list[bytes]:
    """The data in pieces of the given sizes, and a last piece with the rest."""
    pieces, start = [], 0
    for size in sizes:
        pieces.append(data[start : start + size])
        start += size
    return [*pieces, data[start:]]
