"""PNG's chunks: what is kept of a file, and what it may cost."""

import struct
import zlib
from typing import Any

import numpy as np
import pytest

from models.formats.plain import MAX_PARTS, MAX_PROFILE_BYTES, ImageFault, TooManyPixels
from models.formats.png import simplify_png
from models.image_files import read_pixels
from models.preprocess import Preprocessing
from tests.fakes.files import PNG_SIGNATURE, png_chunk, png_file, with_chunks
from tests.fakes.images import encoded, random_image

LIMIT = 1_000_000
PICTURE = encoded(random_image())
EXIF = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 274, 3, 1, 6, 0, 0)


def seen(data: bytes, side: int) -> Any:
    return read_pixels(data, Preprocessing(side, side, (0.5,), (0.5,), 1))[:, :, 0].tolist()


def compressed(size: int) -> bytes:
    return zlib.compress(bytes(size), 9)


@pytest.mark.parametrize(
    "chunk",
    [
        png_chunk(b"iTXt", b"k\0\1\0\0\0" + compressed(2**22)),
        png_chunk(b"zTXt", b"k\0\0" + compressed(2**22)),
        png_chunk(b"zTXt", b"k\0\7unknown"),
        png_chunk(b"tEXt", b"k\0" + bytes(2**21)),
        png_chunk(b"iCCP", b"k\0\0" + compressed(MAX_PROFILE_BYTES + 1)),
        png_chunk(b"iCCP", b"k\0\0broken"),
        png_chunk(b"gAMA", b"x"),
        png_chunk(b"tEXt", b"k\0v")[:-1] + b"!",
    ],
    ids=["iTXt", "zTXt", "method", "tEXt", "iCCP bomb", "iCCP broken", "gAMA", "checksum"],
)
def test_metadata_never_fail_an_image(chunk: bytes) -> None:
    """Text of any size, broken profiles and wrong checksums of what nobody needs are passed over."""
    assert simplify_png(with_chunks(PICTURE, chunk), LIMIT) == simplify_png(PICTURE, LIMIT)


def test_orientation_and_profile_are_known() -> None:
    """They come from eXIf, before the image data or behind, and from iCCP, unless an sRGB chunk says more."""
    profile = png_chunk(b"iCCP", b"k\0\0" + zlib.compress(b"profile"))
    exif, end = png_chunk(b"eXIf", EXIF), PICTURE.index(b"IEND") - 4
    found = simplify_png(with_chunks(PICTURE[:end] + exif + PICTURE[end:], profile), LIMIT)
    assert (found.orientation, found.profile) == (6, b"profile")
    assert simplify_png(with_chunks(PICTURE, profile, exif, png_chunk(b"sRGB", b"\0")), LIMIT).profile is None


@pytest.mark.parametrize(("depth", "byte"), [(1, 0b01000000), (2, 0b00011011), (4, 0x01)])
def test_a_transparent_grey_is_in_units_of_the_file(depth: int, byte: int) -> None:
    """The key 1 of a grey picture of 1, 2 or 4 bits is its second grey: white, as what lies below shows."""
    rows = bytes([0, byte]) * 2
    data = png_file(2, 2, depth, 0, rows, png_chunk(b"tRNS", b"\0\1"))
    assert seen(data, 2) == [[0, 255], [0, 255]]


def test_a_transparent_sixteen_bit_colour_is_white() -> None:
    """The key of a 16-bit RGB picture is compared by its upper bytes."""
    colours = np.array([[[0x1234, 0x2345, 0x3456], [0x8000, 0, 0]]] * 2, ">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in colours)
    data = png_file(2, 2, 16, 2, rows, png_chunk(b"tRNS", colours[0, 0].tobytes()))
    pixels = read_pixels(data, Preprocessing(2, 2, (0.5,) * 3, (0.5,) * 3))
    assert pixels[0].tolist() == [[255, 255, 255], [128, 0, 0]]


def test_chunks_are_bounded() -> None:
    """Any number of image data chunks up to the bound is one picture, and a flood is refused."""
    start, data = PICTURE.index(b"IDAT") - 4, zlib.compress(bytes(33 * 32), 0)
    chunks = b"".join(png_chunk(b"IDAT", data[i : i + 1]) + png_chunk(b"IDAT") for i in range(len(data)))
    header = png_chunk(b"IHDR", struct.pack(">II5B", 32, 32, 8, 0, 0, 0, 0))
    assert np.sum(seen(PNG_SIGNATURE + header + chunks + png_chunk(b"IEND"), 32)) == 0
    assert simplify_png(with_chunks(PICTURE, png_chunk(b"vpAg") * 100_000), LIMIT) == simplify_png(PICTURE, LIMIT)
    for flood in (png_chunk(b"vpAg"), png_chunk(b"IDAT")):
        with pytest.raises(ImageFault, match=f"more than {MAX_PARTS} segments"):
            simplify_png(PICTURE[:start] + flood * (MAX_PARTS + 1) + PICTURE[start:], LIMIT)


def test_a_variant_is_named() -> None:
    """Apple's variant for telephones has no header of PNG's."""
    with pytest.raises(ImageFault, match="CgBI"):
        simplify_png(PNG_SIGNATURE + png_chunk(b"CgBI", bytes(4)) + PICTURE[8:], LIMIT)


@pytest.mark.parametrize(
    "data",
    [
        PICTURE[:20],
        PNG_SIGNATURE + png_chunk(b"IEND"),
        png_file(2, 2, 3, 0, bytes(4)),
        png_file(2, 0, 8, 0, bytes(4)),
        png_file(2, 2, 8, 3, bytes(6)),
        PICTURE[: PICTURE.index(b"IDAT") - 4] + png_chunk(b"IEND"),
    ],
)
def test_a_broken_header_is_corrupt(data: bytes) -> None:
    """A file without size, known depth, palette or image data says that it is corrupt."""
    with pytest.raises(ImageFault, match="truncated or corrupt"):
        simplify_png(data, LIMIT)


def test_the_size_is_limited_by_the_header() -> None:
    """A picture above the limit is refused before its data are looked at."""
    with pytest.raises(TooManyPixels, match="2000 x 2000"):
        simplify_png(png_file(2000, 2000, 8, 2, b""), LIMIT)
