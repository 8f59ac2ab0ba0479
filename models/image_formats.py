"""The image formats that are read, in training and serving alike.

To add a format, add a line to FORMATS.
"""

import re

# By Pillow's name: the name for people, and what the file begins with. TIFF has two byte orders, each with 32-bit and
# with 64-bit offsets (BigTIFF).
FORMATS: dict[str, tuple[str, re.Pattern[bytes]]] = {
    "JPEG": ("JPEG", re.compile(rb"\xff\xd8\xff")),
    "PNG": ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n")),
    "WEBP": ("WebP", re.compile(rb"RIFF.{4}WEBP", re.DOTALL)),
    "GIF": ("GIF", re.compile(rb"GIF8[79]a")),
    "BMP": ("BMP", re.compile(rb"BM")),
    "TIFF": ("TIFF", re.compile(rb"II[*+]\x00|MM\x00[*+]")),
}


def recognise_format(data: bytes) -> str | None:
    """Pillow's name of the format that an image file's bytes begin like, or None."""
    return next((name for name, (_, signature) in FORMATS.items() if signature.match(data)), None)


def list_formats() -> str:
    """The formats' names for people, with commas between."""
    return ", ".join(name for name, _ in FORMATS.values())
