"""GIF (version 89a): blocks up to the first picture.

Owns what is kept: the screen, its palette, the last graphic control before the first picture, and that picture.
Comments and other extensions are passed over, and later pictures are not looked at.
"""

import re
import struct

from models.formats.plain import MAX_PARTS, PlainFile, broken, check_pixels, too_many_parts

PICTURE, END, GRAPHIC_CONTROL = 0x2C, 0x3B, 0xF9
BLOCK = re.compile(rb"[\x21\x2c\x3b]")  # what else lies between blocks is passed over
SCREEN_BYTES, DESCRIPTOR_BYTES = 13, 10


def simplify_gif(data: bytes, max_pixels: int) -> PlainFile:
    """The first picture of a GIF file. Raises ImageFault and TooManyPixels."""
    try:
        screen = struct.unpack_from("<HHB", data, 6)
        first_block = SCREEN_BYTES + _palette_bytes(screen[2])
        at, control = _find_picture(data, first_block)
        left, top, width, height = struct.unpack_from("<4H", data, at + 1)
        flags = data[at + 9]
    except (struct.error, IndexError) as error:
        raise broken("GIF") from error
    # Pillow enlarges the screen if the picture goes beyond it.
    width, height = max(screen[0], left + width), max(screen[1], top + height)
    if not width or not height:
        raise broken("GIF")
    check_pixels(width, height, max_pixels)
    code_size = at + DESCRIPTOR_BYTES + _palette_bytes(flags)
    if code_size + 1 >= len(data):
        raise broken("GIF")
    view = memoryview(data)
    return PlainFile("GIF", b"".join([view[:first_block], control, view[at:]]), width, height, pixel_bytes=1)


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 128 else 0


def _find_picture(data: bytes, at: int) -> tuple[int, bytes]:
    """Where the first picture's descriptor lies, and the last graphic control before it. Raises IndexError."""
    control, parts = b"", 0
    while (found := BLOCK.search(data, at)) and data[found.start()] != PICTURE:
        start = found.start()
        if data[start] == END:
            raise IndexError
        at = start + 2
        while length := data[at]:
            at += length + 1
            parts += 1
            if parts > MAX_PARTS:
                break
        at += 1
        parts += 1
        if parts > MAX_PARTS:
            raise too_many_parts("GIF")
        if data[start + 1] == GRAPHIC_CONTROL and data[start + 2] == 4 and at - start == 8:
            control = data[start:at]
    if not found:
        raise IndexError
    return found.start(), control
