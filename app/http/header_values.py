"""Values of headers that have parameters: Content-Type, Content-Disposition, and the name of a file in it.

Owns how browsers and tools write a file's name. Every function takes time in proportion to its input.
"""

import re
from urllib.parse import unquote_to_bytes

# A quote that is never closed ends with the value.
_PARAMETER = re.compile(rb';[ \t]*([^=;\s"]+)[ \t]*=[ \t]*(?:"([^"\\]*(?:\\.[^"\\]*)*)"?|([^;]*))', re.DOTALL)
_ESCAPED = re.compile(rb'\\(["\\])')
# HTML's standard, section "Multipart form data": browsers escape these three characters of a file's name.
_BROWSERS_ESCAPES = {b"%22": b'"', b"%0D": b"\r", b"%0A": b"\n"}
_BROWSERS_ESCAPE = re.compile(b"|".join(_BROWSERS_ESCAPES))


def parse_header(value: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    r"""The value in lower case, and its parameters by lower-case name (RFC 9110, section 5.6.6).

    Of parameters with one name the first counts. In a quoted value only `\"` and `\\` are escapes: browsers leave a
    backslash in a file's name as it is.
    """
    main, separator, _ = value.partition(b";")
    parameters: dict[bytes, bytes] = {}
    if separator:
        for name, quoted, plain in _PARAMETER.findall(value, len(main)):
            parameters.setdefault(name.lower(), _ESCAPED.sub(rb"\1", quoted) or plain.strip())
    return main.strip().lower(), parameters


def file_name(parameters: dict[bytes, bytes]) -> str | None:
    """The file's name by the parameters of a Content-Disposition, which may be empty; None if there is none.

    `filename*` (RFC 8187), also in numbered pieces (RFC 2231), is preferred to `filename`, as RFC 6266 says. Of a
    Windows path the last part is the name. Any other path is kept: browsers send one for a file of a chosen folder.
    """
    extended = _join_numbered(parameters) if b"filename*0*" in parameters else parameters.get(b"filename*")
    plain = parameters.get(b"filename")
    name = None if extended is None else _decode_extended(extended)
    if name is None:
        if plain is None:
            return None if extended is None else _decode(extended)
        name = _decode(_BROWSERS_ESCAPE.sub(lambda escape: _BROWSERS_ESCAPES[escape[0]], plain))
    is_windows_path = name[1:3] == ":\\" or name.startswith("\\")
    return name.rpartition("\\")[2] if is_windows_path else name


def _decode(name: bytes) -> str:
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("latin-1")


def _decode_extended(value: bytes) -> str | None:
    """The text of `charset'language'percent-encoded` (RFC 8187, section 3.2); None if it cannot be read."""
    charset, _, rest = value.partition(b"'")
    _, quote, encoded = rest.partition(b"'")
    if not quote or charset.lower() not in (b"utf-8", b"iso-8859-1"):
        return None
    try:
        return unquote_to_bytes(encoded).decode(charset.decode())
    except UnicodeDecodeError:
        return None


def _join_numbered(parameters: dict[bytes, bytes]) -> bytes:
    pieces: list[bytes] = []
    while (piece := parameters.get(b"filename*%d*" % len(pieces))) is not None:
        pieces.append(piece)
    return b"".join(pieces)
