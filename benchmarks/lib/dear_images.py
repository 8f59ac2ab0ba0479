"""Image files that are cheap to send and dear to open, each made here from a few numbers."""

import io
import struct
import zlib
from collections.abc import Callable

from PIL import Image

MANY = 100_000
# An image within the bound on pixels that needs much memory: read, or refused for the one reason or the other.
LARGE = "200|413 image_too_large|422 undecodable_image|503 overloaded"


def list_dear_images() -> list[tuple[str, Callable[[], bytes], str]]:
    """Of each the name, what makes its bytes, and the right answers as a regular expression of `STATUS code`."""
    return [
        ("TIFF of 100,000 strips", lambda: _strips(MANY), "200|422 undecodable_image"),
        ("TIFF of 60,000 warnings", lambda: _warnings(60_000), "200|422 undecodable_image"),
        ("JPEG of 100,000 Exif segments", lambda: _exif_segments(MANY), "200|422 undecodable_image"),
        ("JPEG of 1,500 scans", lambda: make_scans(1500, (1000, 1000)), "422 undecodable_image"),
        ("PNG of 100,000 chunks", lambda: _chunks(MANY), "200|422 undecodable_image"),
        ("PNG canvas of 100,000 x 100,000", lambda: _png(100_000, 100_000, b""), "413 image_too_large"),
        ("PNG of 7,900 x 7,900, 16 bits, RGBA", lambda: _deep_png(7900), LARGE),
        ("WebP canvas of 16,383 x 16,383", lambda: _webp_canvas(16_383), "413 image_too_large"),
        ("WebP of 7,900 x 7,900, one colour", lambda: _large_webp(7900), LARGE),
        ("BMP, run-length encoded, 8,000 x 8,000", lambda: _rle_bmp(8000), LARGE),
    ]


def make_sound_image() -> bytes:
    """A PNG of 32 x 32 pixels."""
    return _encode(Image.new("RGB", (32, 32), (90, 120, 150)), "PNG")


def _encode(image: Image.Image, name: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def make_scans(scans: int, size: tuple[int, int]) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    data = _encode(Image.radial_gradient("L").resize(size), "JPEG", progressive=True, quality=20)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * (scans - data.count(b"\xff\xda") + 1) + data[-2:]


def _exif_segments(count: int) -> bytes:
    jpeg = _encode(Image.new("RGB", (32, 32)), "JPEG")
    segment = b"Exif\0\0ab"
    return jpeg[:2] + (b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment) * count + jpeg[2:]


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png(width: int, height: int, pixels: bytes, depth: int = 8, kind: int = 2, between: bytes = b"") -> bytes:
    header = _chunk(b"IHDR", struct.pack(">II5B", width, height, depth, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + between + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _chunks(count: int) -> bytes:
    return _png(8, 8, zlib.compress(bytes(8 * 25)), between=_chunk(b"teSt", b"") * count)


def _deep_png(side: int) -> bytes:
    packer, row = zlib.compressobj(1), bytes(1 + 8 * side)
    return _png(side, side, b"".join(packer.compress(row) for _ in range(side)) + packer.flush(), 16, 6)


def _large_webp(side: int) -> bytes:
    return _encode(Image.new("RGBA", (side, side)), "WEBP", method=0)


def _webp_canvas(side: int) -> bytes:
    extended = b"\x10\0\0\0" + struct.pack("<I", side - 1)[:3] * 2
    chunks = b"WEBPVP8X" + struct.pack("<I", len(extended)) + extended
    image = _encode(Image.new("RGB", (8, 8)), "WEBP")[12:]
    return b"RIFF" + struct.pack("<I", len(chunks) + len(image)) + chunks + image


def _rle_bmp(side: int) -> bytes:
    runs = (b"\xff\x01" * (side // 255) + bytes([side % 255, 1]) + b"\0\0") * side + b"\0\1"
    palette = bytes(1024)
    header = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(runs), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 14 + 40 + 1024 + len(runs), 0, 0, 14 + 40 + 1024) + header + palette + runs


def _tiff(entries: list[tuple[int, int, int, int]], behind: bytes) -> bytes:
    """A TIFF whose first bytes after the header are `behind`. An entry is tag, type, count and value."""
    directory = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return (
        b"II*\0" + struct.pack("<I", 8 + len(behind)) + behind + struct.pack("<H", len(entries)) + directory + bytes(4)
    )


def _basic(strips: int, offsets: int, counts: int) -> list[tuple[int, int, int, int]]:
    side = ((256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1))
    return [*side, (273, 4, strips, offsets), (278, 3, 1, 1), (279, 4, strips, counts)]


def _strips(count: int) -> bytes:
    pixels = bytes(8)
    tables = struct.pack("<I", 8) * count + struct.pack("<I", 8) * count
    return _tiff(_basic(count, 16, 16 + 4 * count), pixels + tables)


def _warnings(count: int) -> bytes:
    pixels, tables = bytes(64), struct.pack("<8I", *range(8, 72, 8)) + struct.pack("<I", 8) * 8
    broken = [(1000 + i, 5, 1, 0xFFFFFF00) for i in range(count)]
    return _tiff(_basic(8, 72, 104) + broken, pixels + tables)
