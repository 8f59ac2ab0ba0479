"""PNG (third edition): chunks.

Owns which chunks are kept: header, palette, transparent colour and image data, which become one chunk. Text of any size
is passed over. Of an animation the still image remains.
"""

import struct
import zlib

from models.formats.directory import read_orientation
from models.formats.plain import (
    MAX_PARTS,
    MAX_PROFILE_BYTES,
    ImageFault,
    PlainFile,
    broken,
    check_pixels,
    too_many_parts,
)

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEAD = struct.Struct(">I4s")
GREY, TRUE_COLOUR, PALETTE, GREY_ALPHA, TRUE_COLOUR_ALPHA = 0, 2, 3, 4, 6
PIXEL_BYTES = {  # by bit depth and colour type: of a pixel that Pillow decodes
    **dict.fromkeys([(1, GREY), (2, GREY), (4, GREY), (8, GREY)], 1),
    (16, GREY): 2,
    **dict.fromkeys([(1, PALETTE), (2, PALETTE), (4, PALETTE), (8, PALETTE)], 1),
    **dict.fromkeys([(8, TRUE_COLOUR), (8, GREY_ALPHA), (8, TRUE_COLOUR_ALPHA)], 4),
    **dict.fromkeys([(16, TRUE_COLOUR), (16, GREY_ALPHA), (16, TRUE_COLOUR_ALPHA)], 4),
}
MAX_LENGTHS = {b"PLTE": 768, b"tRNS": 256, b"iCCP": MAX_PROFILE_BYTES, b"eXIf": 65_536}


def simplify_png(data: bytes, max_pixels: int) -> PlainFile:
    """The still image of a PNG file. Raises ImageFault and TooManyPixels."""
    length, kind = _head(data, len(SIGNATURE))
    if kind == b"CgBI":
        raise ImageFault("The PNG file is of Apple's variant CgBI, which is not read.")
    header = data[16:29]
    if kind != b"IHDR" or length != 13 or len(header) < 13:
        raise broken("PNG")
    width, height, depth, colours, _, _, _ = struct.unpack(">II5B", header)
    if (depth, colours) not in PIXEL_BYTES or not width or not height:
        raise broken("PNG")
    check_pixels(width, height, max_pixels)
    found, pixels = _collect(data)
    if colours == PALETTE and b"PLTE" not in found:
        raise broken("PNG")
    parts = [SIGNATURE, data[8:33]]  # with the header's own checksum, which Pillow verifies
    if colours == PALETTE:
        parts.append(_chunk(b"PLTE", found[b"PLTE"]))
    if transparent := _eight_bit_key(found.get(b"tRNS", b""), depth, colours):
        parts.append(_chunk(b"tRNS", transparent))
    parts += [_chunk(b"IDAT", pixels), _chunk(b"IEND", b"")]
    return PlainFile(
        "PNG",
        b"".join(parts),
        width,
        height,
        pixel_bytes=PIXEL_BYTES[depth, colours],
        orientation=read_orientation(found.get(b"eXIf", b"")),
        profile=_inflate_profile(found[b"iCCP"]) if b"iCCP" in found and b"sRGB" not in found else None,
    )


def _eight_bit_key(transparent: bytes, depth: int, colours: int) -> bytes:
    """A tRNS chunk in the units in which Pillow has the samples: 8 bits, but 16 of 16-bit grey and 1 of 1-bit grey.

    A 16-bit colour is transparent if its upper bytes are those of the key, as Pillow keeps no more of it.
    """
    if colours == GREY and depth in (2, 4):
        largest = (1 << depth) - 1
        return ((int.from_bytes(transparent[:2]) & largest) * 255 // largest).to_bytes(2) if transparent else b""
    if colours == TRUE_COLOUR and depth == 16:
        return b"".join(bytes((0, byte)) for byte in transparent[:6:2])
    return transparent if colours in (GREY, TRUE_COLOUR, PALETTE) else b""


def _head(data: bytes, at: int) -> tuple[int, bytes]:
    """A chunk's length and kind."""
    try:
        length, kind = HEAD.unpack_from(data, at)
    except struct.error as error:
        raise broken("PNG") from error
    return length, kind


def _collect(data: bytes) -> tuple[dict[bytes, bytes], bytes | bytearray]:
    """The first chunk of each wanted kind, and the image data: those chunks of it that follow each other."""
    found: dict[bytes, bytes] = {}
    pixels = bytearray()
    view = memoryview(data)
    at, last, has_ended = len(SIGNATURE), len(data) - HEAD.size, False
    unpack = HEAD.unpack_from
    for _ in range(MAX_PARTS):
        if at > last:
            break
        length, kind = unpack(data, at)
        at += 8
        if kind == b"IDAT":
            if not has_ended:
                pixels += view[at : at + length]
        elif kind == b"IEND":
            break
        else:
            has_ended = has_ended or bool(pixels)
            if kind == b"sRGB":
                found[kind] = b""
            elif length <= MAX_LENGTHS.get(kind, -1) and kind not in found:
                found[kind] = data[at : at + length]
        at += length + 4
    else:
        raise too_many_parts("PNG")
    if not pixels:
        raise broken("PNG")
    return found, pixels


def _inflate_profile(chunk: bytes) -> bytes | None:
    """The profile of an iCCP chunk; None if it is broken or too large."""
    _, _, compressed = chunk.partition(b"\0")
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(compressed[1:], MAX_PROFILE_BYTES + 1)
    except zlib.error:
        return None
    return profile if inflater.eof and len(profile) <= MAX_PROFILE_BYTES else None


def _chunk(kind: bytes, body: bytes | bytearray) -> bytes:
    return b"".join([HEAD.pack(len(body), kind), body, zlib.crc32(body, zlib.crc32(kind)).to_bytes(4)])
