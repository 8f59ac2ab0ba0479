"""Request bodies that are broken or ask a server for too much, such as decompression bombs, each with its name.

All are small, and are made here so that none has to be stored.
"""

import io
import json
import random
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image, PngImagePlugin


def make_bad_bodies() -> Iterator[tuple[str, bytes, str]]:
    """Yields the name, body and content type of each."""
    photo = _photo()
    png, jpeg = _encoded(photo, "PNG"), _encoded(photo, "JPEG")
    yield "empty body", b"", "image/png"
    yield "text", b"hello world", "image/jpeg"
    yield "random bytes", random.Random(0).randbytes(100_000), "image/png"
    yield "SVG", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', "image/svg+xml"
    for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        data = _encoded(photo, name)
        yield f"{name} cut in half", data[: len(data) // 2], "image/*"
        yield f"{name} with noise in the middle", _noisy(data), "image/*"
    yield "PNG header of 100,000 x 100,000", _png_header(100_000, 100_000) + png[33:], "image/png"
    yield "JPEG header of 65,500 x 65,500", _jpeg_of_size(jpeg, 65_500, 65_500), "image/jpeg"
    yield (
        "GIF header of 65,535 x 65,535",
        b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + _encoded(photo, "GIF")[10:],
        "image/gif",
    )
    yield (
        "BMP header of 2^31 x 1",
        b"BM" + struct.pack("<IHHIIiiHH", 100, 0, 0, 54, 40, 2**31 - 1, 1, 1, 24) + bytes(60),
        "image/bmp",
    )
    yield (
        "PNG of 8,000 x 8,000 black pixels",
        _encoded(Image.new("L", (8_000, 8_000)), "PNG", optimize=False),
        "image/png",
    )
    yield "PNG of 8,000 x 8,000, RGBA", _encoded(Image.new("RGBA", (8_000, 8_000)), "PNG"), "image/png"
    yield "PNG of 1 x 64,000,000", _thin_png(64_000_000), "image/png"
    yield "PNG with a text chunk of 256 MiB", _png_with_text(256), "image/png"
    yield "progressive JPEG of 1,500 scans", _scans(1_500, (1_000, 1_000)), "image/jpeg"
    yield "progressive JPEG of 90 scans, 16 megapixels", _scans(90, (4_000, 4_000)), "image/jpeg"
    yield "GIF of 2,000 frames", _frames(2_000), "image/gif"
    yield "TIFF of 500 pages", _pages(500), "image/tiff"
    yield "JPEG with a 60 KB EXIF of noise", _bad_exif(jpeg), "image/jpeg"
    yield "form of 10,000 parts", _form(10_000), "multipart/form-data; boundary=x"
    yield (
        "form that never closes",
        b"--x\r\nContent-Disposition: form-data; filename=a\r\n\r\n" + png,
        "multipart/form-data; boundary=x",
    )
    yield (
        "form with a header of 1 MiB",
        b"--x\r\n" + b"a" * 2**20 + b": b\r\n\r\n\r\n--x--",
        "multipart/form-data; boundary=x",
    )
    yield (
        "form of 4 MiB of near boundaries",
        b"--x\r\n\r\n" + b"\r\n--" * 2**20 + b"\r\n--x--",
        "multipart/form-data; boundary=x",
    )
    yield "JSON 100,000 lists deep", b"[" * 100_000, "application/json"
    yield "JSON of 50,000 instances", json.dumps({"instances": [{"b64": ""}] * 50_000}).encode(), "application/json"
    yield "body of 40 MB", bytes(40_000_000), "image/png"


def _photo() -> Image.Image:
    blocks = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((400, 300), Image.Resampling.BICUBIC)


def _encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def _noisy(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + random.Random(1).randbytes(200) + data[middle + 200 :]


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png_header(width: int, height: int, colours: int = 2) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">II5B", width, height, 8, colours, 0, 0, 0))


def _thin_png(height: int) -> bytes:
    rows = zlib.compress(bytes(2 * height), 9)
    return _png_header(1, height, colours=0) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def _png_with_text(megabytes: int) -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(megabytes * 2**20), 9))
    return _encoded(_photo(), "PNG", pnginfo=text)


def _jpeg_of_size(jpeg: bytes, width: int, height: int) -> bytes:
    frame = jpeg.index(b"\xff\xc0")
    return jpeg[: frame + 5] + struct.pack(">HH", height, width) + jpeg[frame + 9 :]


def _scans(scans: int, size: tuple[int, int]) -> bytes:
    data = _encoded(_photo().resize(size), "JPEG", progressive=True, quality=20)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * (scans - data.count(b"\xff\xda") + 1) + data[-2:]


def _frames(frames: int) -> bytes:
    images = [Image.new("P", (64, 64), i % 256) for i in range(frames)]
    return _encoded(images[0], "GIF", save_all=True, append_images=images[1:])


def _pages(pages: int) -> bytes:
    images = [Image.new("L", (64, 64), i % 256) for i in range(pages)]
    return _encoded(images[0], "TIFF", save_all=True, append_images=images[1:])


def _bad_exif(jpeg: bytes) -> bytes:
    noise = b"Exif\0\0II*\0" + random.Random(2).randbytes(60_000)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(noise) + 2) + noise + jpeg[2:]


def _form(parts: int) -> bytes:
    return b"--x\r\nContent-Disposition: form-data; filename=a\r\n\r\n1\r\n" * parts + b"--x--\r\n"
