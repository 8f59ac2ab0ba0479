"""Image files put together by hand, as writers make them and as an adversary would."""

import struct
import zlib

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png_chunk(kind: bytes, body: bytes = b"") -> bytes:
    """A chunk of a PNG file with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + zlib.crc32(kind + body).to_bytes(4)


def png_file(width: int, height: int, depth: int, colours: int, rows: bytes, *chunks: bytes) -> bytes:
    """A PNG file of `rows`, each with its filter byte, and `chunks` before them."""
    header = png_chunk(b"IHDR", struct.pack(">II5B", width, height, depth, colours, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(rows))
    return b"".join([PNG_SIGNATURE, header, *chunks, pixels, png_chunk(b"IEND")])


def with_chunks(png: bytes, *chunks: bytes) -> bytes:
    """The PNG file with `chunks` behind its header."""
    return png[:33] + b"".join(chunks) + png[33:]


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    """The JPEG file with `segments` behind its start."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def jpeg_segment(marker: int, body: bytes = b"") -> bytes:
    """A segment of a JPEG file."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def bmp_file(width: int, height: int, bits: int, compression: int, palette: bytes, data: bytes) -> bytes:
    """A BMP file with a header of 40 bytes."""
    start = 54 + len(palette)
    head = struct.pack("<2sIII", b"BM", start + len(data), 0, start)
    info = (40, width, height, 1, bits, compression, 0, 0, 0, len(palette) // 4, 0)
    return head + struct.pack("<IiiHHIIiiII", *info) + palette + data
