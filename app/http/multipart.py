"""Forms: the files of a multipart body (RFC 2046, section 5.1; RFC 7578), read while the body arrives.

Owns where parts begin and end, which of them are images, and the limits of a form. The work for each chunk is searches
in C and a bounded number of parts, so that a chunk never holds up the event loop.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from app.errors import BadRequest, ServiceError, TooManyImages
from app.http.header_values import file_name, parse_header
from app.http.pieces import join_pieces

PARTS_PER_IMAGE = 4  # parts of any kind that a form may have, for each allowed image
MAX_BOUNDARY_CHARACTERS = 70  # RFC 2046, section 5.1.1
MAX_HEADERS = 16  # of a part
MAX_HEADERS_BYTES = 8 * 1024  # of a part
MAX_PADDING = 64  # blanks behind a boundary: transport padding
PIECE_BYTES = 64 * 1024  # a part's data is put aside in pieces of this size at least
PLAIN_ENCODINGS = (b"", b"7bit", b"8bit", b"binary")

_BOUNDARY = re.compile(rb"[!-~](?:[ -~]*[!-~])?")
_FOLD = re.compile(rb"\r\n[ \t]+")
_HEADER_NAME = re.compile(rb"[!#-'*+.0-9A-Z^-z|~-]+")  # RFC 9110, section 5.6.2


@dataclass(slots=True)
class FilePart:
    """A part of a form that is an image. `filename` is None where the part has none, or an empty one."""

    filename: str | None
    error: ServiceError | None = None
    pieces: list[bytes] = field(default_factory=list)


async def read_form(
    chunks: AsyncIterator[bytes], boundary: bytes | None, max_images: int
) -> list[tuple[bytes | ServiceError, str | None]]:
    """The image files of a form, or the errors in their place, with their names. Raises BadRequest, TooManyImages."""
    reader = FormReader(boundary, max_images)
    async for chunk in chunks:
        reader.feed(chunk)
    reader.close()
    files: list[tuple[bytes | ServiceError, str | None]] = []
    for part in reader.files:
        data = await join_pieces(part.pieces)
        part.pieces.clear()
        files.append((part.error or data or BadRequest("The image has no bytes."), part.filename))
    return files


class FormReader:
    """Reads a form chunk by chunk; `files` are the images so far."""

    def __init__(self, boundary: bytes | None, max_images: int) -> None:
        self.files: list[FilePart] = []
        self._max_images = max_images
        self._delimiter = b"\r\n--" + _check_boundary(boundary)
        # What begins like a delimiter and goes on otherwise is data.
        self._delimiter_line = re.compile(re.escape(self._delimiter) + rb"(?:(--)|[ \t]{0,%d}\r\n)" % MAX_PADDING)
        self._longest_line = len(self._delimiter) + MAX_PADDING + len("\r\n")
        # What has not been read yet. A line break stands before it that belongs to the delimiter, if one follows.
        self._buffer = bytearray(b"\r\n")
        self._skip = len("\r\n")  # bytes at the buffer's beginning that are no data
        self._searched = 0  # bytes at the buffer's beginning in which nothing begins
        self._parts = 0
        self._part: FilePart | None = None  # None in a part that is no image, and before the first part
        self._in_headers = False
        self._ended = False

    def feed(self, chunk: bytes) -> None:
        """Reads the next bytes. Raises BadRequest and TooManyImages."""
        if self._ended:  # what follows the last boundary has no meaning
            return
        self._buffer += chunk
        while self._read_headers() if self._in_headers else self._read_data():
            pass

    def close(self) -> None:
        """Raises BadRequest if the form has not ended."""
        if not self._ended:
            raise BadRequest("The multipart body ends before its closing boundary.")

    def _read_data(self) -> bool:
        """Reads up to the next delimiter. Returns whether a part's headers follow."""
        line = self._find_delimiter()
        if line is None:
            self._searched = max(0, len(self._buffer) - self._longest_line)
            if self._searched >= PIECE_BYTES:
                self._take(self._searched)
            return False
        end, (start, stop) = line[1] is not None, line.span()
        del line  # it keeps the buffer from being resized
        self._take(start)
        self._end_part()
        if end:
            self._ended = True
            self._buffer.clear()
            return False
        self._begin_part(stop - start)
        return True

    def _find_delimiter(self) -> re.Match[bytes] | None:
        start = self._buffer.find(self._delimiter, self._searched)  # ten times as fast as the expression
        return None if start < 0 else self._delimiter_line.search(self._buffer, start)

    def _take(self, count: int) -> None:
        """Moves the first bytes of the buffer to the part that they belong to."""
        if self._part is not None and count > self._skip:
            with memoryview(self._buffer) as view:
                self._part.pieces.append(bytes(view[self._skip : count]))
        del self._buffer[:count]
        self._skip = max(0, self._skip - count)
        self._searched = 0

    def _begin_part(self, line_bytes: int) -> None:
        self._parts += 1
        if self._parts > PARTS_PER_IMAGE * self._max_images:
            raise TooManyImages(f"The form has more than the allowed {PARTS_PER_IMAGE * self._max_images} parts.")
        del self._buffer[: line_bytes - len("\r\n")]
        self._in_headers = True

    def _read_headers(self) -> bool:
        """Reads up to the empty line. Returns whether the part's data follow."""
        end = self._buffer.find(b"\r\n\r\n", self._searched)
        if max(end, len(self._buffer) if end < 0 else 0) > MAX_HEADERS_BYTES:
            raise BadRequest(f"The headers of a part have more than the allowed {MAX_HEADERS_BYTES} bytes.")
        if end < 0:
            self._searched = max(0, len(self._buffer) - len("\r\n\r"))
            return False
        headers = _parse_headers(bytes(self._buffer[len("\r\n") : end]))
        del self._buffer[: end + len("\r\n")]
        self._in_headers, self._skip, self._searched = False, len("\r\n"), 0
        self._part = _recognise_file(headers)
        if self._part is not None and self._part.filename:
            self._check_count(len(self.files) + 1)
        return True

    def _end_part(self) -> None:
        part, self._part = self._part, None
        if part is not None and (part.filename or part.pieces):  # else an empty file input
            self.files.append(part)
            self._check_count(len(self.files))

    def _check_count(self, images: int) -> None:
        if images > self._max_images:
            raise TooManyImages(f"The request has more than the allowed {self._max_images} images.")


def _check_boundary(boundary: bytes | None) -> bytes:
    if not boundary:
        raise BadRequest("The multipart body's Content-Type has no boundary.")
    if len(boundary) > MAX_BOUNDARY_CHARACTERS:
        raise BadRequest(
            f"The multipart boundary has {len(boundary)} characters, but at most {MAX_BOUNDARY_CHARACTERS} are allowed."
        )
    if not _BOUNDARY.fullmatch(boundary):
        raise BadRequest("The multipart boundary has a character that is not printable ASCII, or ends with a space.")
    return boundary


def _parse_headers(lines: bytes) -> dict[bytes, bytes]:
    """A part's headers by lower-case name; of several with one name the first counts."""
    headers: dict[bytes, bytes] = {}
    split = _FOLD.sub(b" ", lines).split(b"\r\n") if lines else []
    if len(split) > MAX_HEADERS:
        raise BadRequest(f"A part has more than the allowed {MAX_HEADERS} headers.")
    for line in split:
        name, colon, value = line.partition(b":")
        if not colon or not _HEADER_NAME.fullmatch(name):
            raise BadRequest("A part of the multipart body has a line among its headers that is no header.")
        headers.setdefault(name.lower(), value.strip())
    return headers


def _recognise_file(headers: dict[bytes, bytes]) -> FilePart | None:
    """The image that begins behind these headers, or None for a part that is no image."""
    _, parameters = parse_header(headers.get(b"content-disposition", b""))
    media_type, _ = parse_header(headers.get(b"content-type", b""))
    name = file_name(parameters)
    if name is None and not (media_type.startswith(b"image/") or media_type == b"application/octet-stream"):
        return None
    encoding = headers.get(b"content-transfer-encoding", b"").lower()
    error = None
    if encoding not in PLAIN_ENCODINGS:
        shown = encoding.decode("latin-1")
        error = BadRequest(f"The image's Content-Transfer-Encoding is {shown!r}, but must be binary (RFC 7578).")
    return FilePart(name or None, error)
