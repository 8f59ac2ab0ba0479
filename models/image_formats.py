"""The image formats that are read, in training and serving alike.

To add a format, add a module to `models/formats` and an entry to FORMATS.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from models.formats.bmp import simplify_bmp
from models.formats.gif import simplify_gif
from models.formats.jpeg import simplify_jpeg
from models.formats.plain import PlainFile, UnknownFormat
from models.formats.png import simplify_png
from models.formats.tiff import simplify_tiff
from models.formats.webp import simplify_webp


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """`name` is for people. `simplify` walks a file's structure and keeps its one picture, if it has so many pixels."""

    name: str
    signature: re.Pattern[bytes]
    simplify: Callable[[bytes, int], PlainFile]


# By Pillow's name. TIFF has two byte orders, each with 32-bit and with 64-bit offsets (BigTIFF).
FORMATS = {
    "JPEG": ImageFormat("JPEG", re.compile(rb"\xff\xd8\xff"), simplify_jpeg),
    "PNG": ImageFormat("PNG", re.compile(rb"\x89PNG\r\n\x1a\n"), simplify_png),
    "WEBP": ImageFormat("WebP", re.compile(rb"RIFF.{4}WEBP", re.DOTALL), simplify_webp),
    "GIF": ImageFormat("GIF", re.compile(rb"GIF8[79]a"), simplify_gif),
    "BMP": ImageFormat("BMP", re.compile(rb"BM"), simplify_bmp),
    "TIFF": ImageFormat("TIFF", re.compile(rb"II[*+]\x00|MM\x00[*+]"), simplify_tiff),
}


def recognise_format(data: bytes) -> str | None:
    """Pillow's name of the format that an image file's bytes begin like, or None."""
    return next((name for name, known in FORMATS.items() if known.signature.match(data)), None)


def list_formats() -> str:
    """The formats' names for people, with commas between."""
    return ", ".join(known.name for known in FORMATS.values())


def simplify(data: bytes, max_pixels: int) -> PlainFile:
    """The one picture of an image file, for which nothing is decoded yet, in time linear in the file's length.

    Raises UnknownFormat, TooManyPixels, and ImageFault for other files that are refused.
    """
    name = recognise_format(data)
    if name is None:
        raise UnknownFormat(f"The data are not an image of an allowed format ({list_formats()}).")
    return FORMATS[name].simplify(data, max_pixels)
