"""WebP (RFC 9649): chunks of the RIFF container.

Owns what is kept: the header, the first picture, and what its alpha needs.
"""

import struct

from models.formats.directory import read_orientation
from models.formats.plain import MAX_PARTS, MAX_PROFILE_BYTES, PlainFile, broken, check_pixels, too_many_parts

# Of libwebp's animation decoder, by a pixel: two canvases. What it hands out besides is gone before a copy is made.
BUFFER_PIXEL_BYTES = 8
HEAD = struct.Struct("<4sI")
KEPT = frozenset({b"VP8X", b"ALPH", b"VP8 ", b"VP8L", b"ANIM", b"ANMF"})
PICTURES = frozenset({b"VP8 ", b"VP8L", b"ANMF"})
EXIF_BYTES = 65_536


def simplify_webp(data: bytes, max_pixels: int) -> PlainFile:
    """The first picture of a WebP file. Raises ImageFault and TooManyPixels."""
    width, height = _size(data)
    check_pixels(width, height, max_pixels)
    parts, found = _collect(data)
    body = b"".join(parts)
    return PlainFile(
        "WEBP",
        b"".join([b"RIFF", (len(body) + 4).to_bytes(4, "little"), b"WEBP", body]),
        width,
        height,
        pixel_bytes=4,
        buffer_bytes=BUFFER_PIXEL_BYTES * width * height,
        orientation=read_orientation(found.get(b"EXIF", b"")),
        profile=found.get(b"ICCP"),
    )


def _size(data: bytes) -> tuple[int, int]:
    """Width and height of the canvas, from the first chunk."""
    kind = data[12:16]
    try:
        if kind == b"VP8X":
            return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
        if kind == b"VP8L" and data[20] == 0x2F:
            (bits,) = struct.unpack_from("<I", data, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
            width, height = struct.unpack_from("<HH", data, 26)
            return width & 0x3FFF, height & 0x3FFF
    except (struct.error, IndexError) as error:
        raise broken("WebP") from error
    raise broken("WebP")


def _collect(data: bytes) -> tuple[list[bytes], dict[bytes, bytes]]:
    """The chunks up to the first picture that are kept, and the first ICC profile and EXIF block."""
    parts: list[bytes] = []
    found: dict[bytes, bytes] = {}
    kept: set[bytes] = set()
    limits = {b"ICCP": MAX_PROFILE_BYTES, b"EXIF": EXIF_BYTES}
    at, end = 12, min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    for _ in range(MAX_PARTS):
        if at + HEAD.size > end:
            break
        kind, length = HEAD.unpack_from(data, at)
        following = at + HEAD.size + length + length % 2
        if kind in KEPT and kind not in kept and not (kind in PICTURES and kept & PICTURES):
            if at + HEAD.size + length > len(data):
                raise broken("WebP")
            chunk = data[at:following]
            if kind == b"VP8X":  # metadata and profile are gone
                chunk = chunk[:8] + bytes([chunk[8] & 0b10010]) + chunk[9:] if length == 10 else chunk
            parts.append(chunk + bytes(following - at - len(chunk)))
            kept.add(kind)
        elif kind not in found and length <= limits.get(kind, -1):
            found[kind] = data[at + HEAD.size : at + HEAD.size + length]
        at = following
    else:
        raise too_many_parts("WebP")
    if not kept & PICTURES:
        raise broken("WebP")
    return parts, found
