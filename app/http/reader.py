"""Where heads, chunks and bodies begin and end in the bytes of a connection.

Owns the bound on heads. The parser gets whole lines and pieces of bodies alone: it would gather an unfinished line in
memory, with a cost that grows with the square of its length, and it does not say how much of its input it has used.
"""

from collections.abc import Callable
from enum import Enum

from app.errors import HeadersTooLarge
from app.http.framing import check_request_line, drop_upgrade

TOO_LONG = "The request's head, or what frames its body, has more than the allowed {} bytes."
# Of a chunk's framing, a quarter of the chunk's size is not counted. So a body may have any number of chunks of 20 or
# more bytes. Smaller ones, of which each costs as much time as a large one, and long extensions (RFC 9112, 7.1.1) are
# bounded like a head.
FREE_SHARE = 4


class _State(Enum):
    IDLE = 0  # before the first line of a head
    HEAD = 1
    BODY = 2  # in a body of known length, or in a chunk
    CHUNK = 3  # before a chunk's size
    TRAILERS = 4


class MessageReader:
    """Gives `parse` the bytes of one request after the other.

    `parse` must call `begin_head`, `begin_body` and `end` when it has seen these parts. It raises what it likes for
    bytes that it cannot parse. After any error the reader must not be used again.
    """

    def __init__(self, parse: Callable[[bytes | memoryview], None], max_head_bytes: int) -> None:
        self._parse, self._max_head_bytes = parse, max_head_bytes
        self._state = _State.IDLE
        self._line = bytearray()  # the beginning of a line whose end has not come
        self._head_bytes = 0  # of this head, or of what frames this body
        self._body_left = 0  # bytes of this body or chunk that have not come

    @property
    def in_head(self) -> bool:
        """Whether a head, or an empty line before one, has begun and not ended."""
        return self._state in (_State.IDLE, _State.HEAD) and self._head_bytes > 0

    @property
    def reads_headers(self) -> bool:
        """Whether headers that the parser finds are those of a head, and not trailers."""
        return self._state is _State.HEAD

    @property
    def in_body(self) -> bool:
        """Whether a head has ended whose body has not."""
        return self._state in (_State.BODY, _State.CHUNK, _State.TRAILERS)

    def begin_head(self) -> None:
        """The parser has seen the first byte of a head."""
        self._state = _State.HEAD

    def begin_body(self, length: int | None) -> None:
        """The parser has seen the end of a head. `length` is in bytes, and None for a chunked body."""
        self._state = _State.CHUNK if length is None else _State.BODY
        self._body_left = length or 0
        self._head_bytes = 0

    def end(self) -> None:
        """The parser has seen the end of a request."""
        self._state = _State.IDLE
        self._head_bytes = 0

    def clear(self) -> None:
        """Frees what is kept."""
        self._line.clear()

    def read(self, data: bytes, start: int) -> int:
        """Reads on in `data`, at least one byte. Returns where the rest begins.

        Raises HeadersTooLarge as soon as a head has too many bytes, BadRequest for a request line, and what `parse`
        raises.
        """
        if self._state is _State.BODY:
            return self._read_body(data, start)
        if self._state is _State.CHUNK and not self._line:
            return self._read_chunks(data, start)
        piece = data[start : start + self._room]
        if b"\n" not in piece:
            return self._keep(piece, start)
        text, kept = bytes(self._line) + piece, len(self._line)
        self._line.clear()
        self._head_bytes -= kept
        if self._state is _State.CHUNK:
            end = self._read_chunks(text[: text.index(b"\n") + 1], 0)
        else:
            begin, end = self._find_lines(text)
            self._count(end)
            if begin < end:
                self._read_head(text[begin:end])
        return start + end - kept

    @property
    def _room(self) -> int:
        """One byte more than the bound still allows."""
        return self._max_head_bytes + 1 - self._head_bytes

    def _keep(self, piece: bytes, start: int) -> int:
        self._line += piece
        self._count(len(piece))
        return start + len(piece)

    def _find_lines(self, text: bytes) -> tuple[int, int]:
        """Where the lines begin and end that are parsed next: all whole lines, up to the empty one."""
        begin = 0
        if self._state is _State.IDLE:  # empty lines may stand before a request (RFC 9112, 2.2)
            begin = len(text) - len(text.lstrip(b"\r\n"))
        elif text.startswith(b"\r\n"):
            return 0, 2
        found = text.find(b"\r\n\r\n", begin)
        return begin, found + 4 if found >= 0 else max(begin, text.rfind(b"\n") + 1)

    def _read_head(self, lines: bytes) -> None:
        if self._state is _State.IDLE:
            check_request_line(lines[: lines.index(b"\n") + 1])
        self._parse(drop_upgrade(lines))

    def _read_chunks(self, data: bytes, start: int) -> int:
        """Reads every chunk that begins in `data`. The parser checks them; here only their ends are found.

        A body may have millions of them, so the parser gets all at once.
        """
        end, framing, limit = start, self._head_bytes, self._max_head_bytes
        while end < len(data):
            after = data.find(b"\n", end, end + limit + 1 - framing) + 1
            if not after:
                break
            line, end = data[end:after], after
            try:
                size = int(line.partition(b";")[0] if b";" in line else line, 16)
            except ValueError:
                break  # the parser finds the same fault
            framing = max(0, framing + len(line) - size // FREE_SHARE)
            if not size:
                self._state = _State.TRAILERS
                break
            end = after + size + 2  # with the line end behind the data
            if end > len(data):
                self._state, self._body_left, end = _State.BODY, end - len(data), len(data)
        self._head_bytes = framing
        if end == start:
            return self._keep(data[start : start + self._room], start)
        self._parse(memoryview(data)[start:end])
        return end

    def _read_body(self, data: bytes, start: int) -> int:
        end = min(len(data), start + self._body_left)
        self._body_left -= end - start
        self._parse(memoryview(data)[start:end])
        if not self._body_left and self._state is _State.BODY:
            self._state = _State.CHUNK
        return end

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._max_head_bytes:
            raise HeadersTooLarge(TOO_LONG.format(self._max_head_bytes))
