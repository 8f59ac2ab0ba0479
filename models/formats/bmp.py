"""BMP: the header, and run lengths, which are decoded here.

Owns the decoding of RLE8 and RLE4, in one step a run. Pillow's decoder takes a step a pixel where a line is left empty.
Sources: BITMAPINFOHEADER, BITMAPV5HEADER and "Bitmap Compression" in Microsoft's documentation.
"""

import struct

from models.formats.plain import MAX_PROFILE_BYTES, ImageFault, PlainFile, broken, check_pixels

FILE_HEADER = 14
HEADER_SIZES = (12, 40, 52, 56, 64, 108, 124)
RAW, RLE8, RLE4, BITFIELDS = range(4)
OTHER_COMPRESSIONS = {4: "JPEG", 5: "PNG", 6: "alpha bit fields", 11: "CMYK", 12: "CMYK RLE8", 13: "CMYK RLE4"}
BITS = {RAW: (1, 4, 8, 16, 24, 32), RLE8: (8,), RLE4: (4,), BITFIELDS: (16, 24, 32)}
END_OF_LINE, END_OF_PICTURE, DELTA = range(3)
MAX_RUNS = 1_000_000  # one to two seconds; a picture of 64 million pixels has as many if its mean run has 64
DIGITS = bytes.maketrans(b"0123456789abcdef", bytes(range(16)))
EMBEDDED_PROFILE = b"DEBM"  # "MBED" as a little-endian integer


def simplify_bmp(data: bytes, max_pixels: int) -> PlainFile:
    """The picture of a BMP file, without run lengths. Raises ImageFault and TooManyPixels."""
    try:
        start, size = struct.unpack_from("<I", data, 10)[0], struct.unpack_from("<I", data, FILE_HEADER)[0]
        if size not in HEADER_SIZES:
            raise ImageFault(f"The BMP file has a header of {size} bytes, a variant that is not read.")
        if size == HEADER_SIZES[0]:
            width, height, _, bits = struct.unpack_from("<4H", data, FILE_HEADER + 4)
            compression, colours, entry = RAW, 0, 3
        else:
            width, height, _, bits, compression = struct.unpack_from("<IiHHI", data, FILE_HEADER + 4)
            colours, entry = struct.unpack_from("<I", data, FILE_HEADER + 32)[0], 4
    except struct.error as error:
        raise broken("BMP") from error
    if compression not in BITS:
        name = OTHER_COMPRESSIONS.get(compression, compression)
        raise ImageFault(f"The BMP file has the compression {name}, a variant that is not read.")
    if bits not in BITS[compression]:
        raise ImageFault(f"The BMP file has pixels of {bits} bits, a variant that is not read.")
    check_pixels(width, abs(height), max_pixels)
    if not width or not height or (bits <= 8 and colours > 256):
        raise broken("BMP")
    pixel_bytes = 1 if bits <= 8 else 4
    profile = _profile(data) if size == HEADER_SIZES[-1] else None
    if compression in (RLE8, RLE4):
        if height < 0:
            raise ImageFault("The BMP file has run lengths from top to bottom, a variant that is not read.")
        palette = data[FILE_HEADER + size : FILE_HEADER + size + entry * (colours or 1 << bits)]
        runs = data[start or FILE_HEADER + size + len(palette) :]
        data = _uncompressed(width, height, palette, _decode_runs(runs, width, height, is_rle4=compression == RLE4))
    variant = f"of {bits} bits a pixel with unusual bit fields" if compression == BITFIELDS else ""
    return PlainFile("BMP", data, width, abs(height), pixel_bytes, profile=profile, variant=variant)


def _profile(data: bytes) -> bytes | None:
    """The embedded profile of a header of version 5."""
    if data[FILE_HEADER + 56 : FILE_HEADER + 60] != EMBEDDED_PROFILE:
        return None
    try:
        offset, size = struct.unpack_from("<II", data, FILE_HEADER + 112)
    except struct.error:
        return None
    return data[FILE_HEADER + offset : FILE_HEADER + offset + size] if size <= MAX_PROFILE_BYTES else None


def _uncompressed(width: int, height: int, palette: bytes, pixels: bytearray) -> bytes:
    """A file of 8 bits a pixel, from bottom to top as run lengths are."""
    padding = -width % 4
    view = memoryview(pixels)
    rows = [view[row : row + width] for row in range(0, len(pixels), width)] if padding else [view]
    start = FILE_HEADER + 40 + len(palette)
    header = struct.pack("<2sIII", b"BM", 0, 0, start)
    header += struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, RAW, 0, 0, 0, len(palette) // 4, 0)
    return b"".join([header, palette, bytes(padding).join(rows), bytes(padding)])


def _decode_runs(runs: bytes, width: int, height: int, *, is_rle4: bool) -> bytearray:
    """width x height palette indices, the lowest line first; what no run covers is 0. Raises ImageFault."""
    pixels = bytearray(width * height)
    at, x, line = 0, 0, 0  # `line` is where in `pixels` the present one begins
    try:
        for _ in range(MAX_RUNS):
            count, value = runs[at], runs[at + 1]
            at += 2
            if count:
                count = min(count, width - x)
                pixel = _repeat_nibbles(value, count) if is_rle4 else bytes((value,)) * count
                pixels[line + x : line + x + count] = pixel
                x += count
            elif value == END_OF_LINE:
                x, line = 0, line + width
            elif value == END_OF_PICTURE:
                return pixels
            elif value == DELTA:
                x, line = x + runs[at], line + width * runs[at + 1]
                at += 2
            else:
                length = (value + 1) // 2 if is_rle4 else value
                literal = runs[at : at + length]
                if len(literal) < length:
                    break
                indices = literal.hex().encode().translate(DIGITS) if is_rle4 else literal
                count = min(value, width - x)
                pixels[line + x : line + x + count] = indices[:count]
                x, at = x + count, at + length + length % 2
            if x > width or line + x > len(pixels):
                break
            if line + x == len(pixels):
                return pixels
        else:
            raise ImageFault(f"The BMP file has more than {MAX_RUNS} runs.")
    except IndexError:
        pass
    raise broken("BMP")


def _repeat_nibbles(value: int, count: int) -> bytes:
    return (bytes((value >> 4, value & 15)) * (count // 2 + 1))[:count]
