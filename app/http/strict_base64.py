"""Base64 that is read strictly (RFC 4648, section 4), in slices that the event loop can afford.

Line breaks are passed over, and the head of a `data:` URI (RFC 2397) is cut off. Anything else that is not of the
standard alphabet is an error that names the character and its position.
"""

import binascii
import re

MAX_URI_HEAD = 1024  # characters of a data: URI before its comma
_LINE_BREAKS = b"\r\n"
_OUTSIDE_ALPHABET = re.compile(r"[^A-Za-z0-9+/=\r\n]")


class Base64Decoder:
    """Decodes a text slice by slice into `pieces`. Errors are ValueErrors with one clause for a person."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self._position = 0  # of the next slice's first character in the text
        self._rest = b""  # up to three characters that are not decoded yet
        self._padding_at: int | None = None  # of the first "="
        self._complete = False  # whether the padding has been decoded, behind which nothing may follow

    def feed(self, text: str) -> None:
        """Decodes the next slice. The first one must hold the whole head of a `data:` URI, if there is one."""
        start = _uri_head(text) if self._position == 0 else 0
        if self._padding_at is None and (padding := text.find("=", start)) >= 0:
            self._padding_at = self._position + padding
        try:
            data = self._rest + text[start:].encode("ascii").translate(None, _LINE_BREAKS)
            whole = len(data) - len(data) % 4
            if (data and self._complete) or _OUTSIDE_ALPHABET.search(data[whole:].decode()):
                raise ValueError(self._describe_fault(text, start))
            if whole:
                self.pieces.append(binascii.a2b_base64(data[:whole], strict_mode=True))
        except (binascii.Error, UnicodeEncodeError) as error:
            raise ValueError(self._describe_fault(text, start)) from error
        self._rest = data[whole:]
        self._complete |= data.endswith(b"=", 0, whole)
        self._position += len(text)

    def close(self) -> None:
        """Raises ValueError if the text has ended too early."""
        if self._rest:
            raise ValueError('is cut off, or lacks the "=" at its end: its length is no multiple of 4')

    def _describe_fault(self, text: str, start: int) -> str:
        if wrong := _OUTSIDE_ALPHABET.search(text, start):
            return f"has {wrong[0]!r} at position {self._position + wrong.start()}, which is not of the base64 alphabet"
        return f'has "=" at position {self._padding_at}, where no padding belongs'


def _uri_head(text: str) -> int:
    """The number of characters before the base64 text."""
    if text[:5].lower() != "data:":
        return 0
    comma = text.find(",", 0, MAX_URI_HEAD)
    if comma < 0 or not text[:comma].lower().endswith(";base64"):
        raise ValueError('is a "data:" URI whose head does not end with ";base64,"')
    return comma + 1
