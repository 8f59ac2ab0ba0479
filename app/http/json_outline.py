"""A JSON text that is read without its strings, so that megabytes of base64 are neither copied nor held as text.

The outline of a text is the text with the number of each string in place of what the string holds. It is short, so it
is parsed at once. The strings are found by searches in C, and are read only where they are needed.
"""

import asyncio
import bisect
import re
from typing import Any

import orjson

from app.errors import BadRequest

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
STRINGS_BETWEEN_PAUSES = 512
TOKENS_BETWEEN_PAUSES = 2048
MAX_ESCAPED_QUOTES = 4096
MAX_BACKSLASHES = 4096  # in a row before a quote
MAX_ESCAPE_BYTES = 6  # of a character in a string: "\\u0041"
_BACKSLASH = ord("\\")
_BRACKET_OR_COMMA = re.compile(rb"[\[\]{},]")


class OutlineTooLong(BadRequest):
    """A text with too much outside of its strings; `outline` is what there is up to the limit."""

    def __init__(self, max_bytes: int, outline: bytes) -> None:
        super().__init__(f"The JSON body has more than the allowed {max_bytes} bytes outside of its strings.")
        self._outline = outline

    async def count_elements(self) -> int:
        """The elements of the lists that are members of the outermost object, up to the limit."""
        depth = elements = 0
        in_list = False
        for number, token in enumerate(_BRACKET_OR_COMMA.findall(self._outline), 1):
            if number % TOKENS_BETWEEN_PAUSES == 0:
                await asyncio.sleep(0)
            if token == b",":
                elements += depth == 2 and in_list
            elif token in b"[{":
                depth += 1
                if depth == 2:
                    in_list = token == b"["
                    elements += in_list
            else:
                depth -= 1
        return elements


class JsonOutline:
    """Made by `read`. `document` is the parsed outline; where it has a string, that is a number of a span of `text`."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.document: Any = None
        self._spans: list[tuple[int, int]] = []  # of each string, without its quotes
        self._ends: list[int] = []  # where each string's number ends in the outline
        self._escaped_quotes = 0

    @classmethod
    async def read(cls, text: bytes, max_bytes: int) -> "JsonOutline":
        """Raises OutlineTooLong, and BadRequest for a text that is not JSON."""
        outline = cls(text)
        found = await outline._find_strings(max_bytes)
        try:
            outline.document = orjson.loads(found)
        except orjson.JSONDecodeError as error:
            detail = f"The body is not valid JSON: {error.msg} at byte {outline._position(error.pos)}."
            raise BadRequest(detail) from error
        return outline

    def span(self, string: str) -> tuple[int, int]:
        """Where the text has a string of the document, without its quotes."""
        return self._spans[int(string)]

    def member(self, members: dict[str, Any], key: str) -> Any:
        """The value of a key in an object of the document, or None. Raises BadRequest if the key stands there twice."""
        values = [value for name, value in members.items() if self._is_key(name, key)]
        if len(values) > 1:
            raise BadRequest(f'An object of the JSON body has the key "{key}" {len(values)} times.')
        return values[0] if values else None

    async def _find_strings(self, max_bytes: int) -> bytes:
        text, outline = self.text, bytearray()
        position = len(BYTE_ORDER_MARK) if text.startswith(BYTE_ORDER_MARK) else 0
        while True:
            limit = position + max(0, max_bytes - len(outline))
            quote = text.find(b'"', position, limit + 1)
            stop = quote if quote >= 0 else min(limit, len(text))
            outline += text[position:stop]
            if len(outline) > max_bytes or (quote < 0 and stop < len(text)):
                raise OutlineTooLong(max_bytes, bytes(outline))
            if quote < 0:
                return bytes(outline)
            end = self._find_end(quote + 1)
            outline += b'"%d"' % len(self._spans)
            self._spans.append((quote + 1, end))
            self._ends.append(len(outline))
            position = end + 1
            if len(self._spans) % STRINGS_BETWEEN_PAUSES == 0:
                await asyncio.sleep(0)

    def _find_end(self, start: int) -> int:
        """The position of a string's last quote."""
        text, position = self.text, start
        while (quote := text.find(b'"', position)) >= 0:
            if text[quote - 1] != _BACKSLASH or quote == position:
                return quote
            before = text[max(position, quote - MAX_BACKSLASHES) : quote]
            backslashes = len(before) - len(before.rstrip(b"\\"))
            if backslashes == MAX_BACKSLASHES:
                raise BadRequest(f"The JSON body has {MAX_BACKSLASHES} backslashes or more in a row.")
            if backslashes % 2 == 0:
                return quote
            position = quote + 1
            self._escaped_quotes += 1
            if self._escaped_quotes > MAX_ESCAPED_QUOTES:
                raise BadRequest(f"The JSON body has more than the allowed {MAX_ESCAPED_QUOTES} escaped quotes.")
        raise BadRequest(f"The body is not valid JSON: the string that begins at byte {start - 1} has no end.")

    def _is_key(self, string: str, key: str) -> bool:
        start, end = self.span(string)
        if end - start > MAX_ESCAPE_BYTES * len(key):
            return False
        try:
            return bool(orjson.loads(self.text[start - 1 : end + 1]) == key)
        except orjson.JSONDecodeError as error:
            raise BadRequest(f"The body is not valid JSON: {error.msg} in the key at byte {start}.") from error

    def _position(self, position: int) -> int:
        """A position of the outline as one of the text."""
        strings = bisect.bisect_right(self._ends, position)
        if not strings:
            return position + (len(BYTE_ORDER_MARK) if self.text.startswith(BYTE_ORDER_MARK) else 0)
        return self._spans[strings - 1][1] + 1 + position - self._ends[strings - 1]
