"""BMP's header and run lengths."""

import struct
from typing import Any

import pytest
from PIL import Image

from models.formats.bmp import MAX_RUNS, simplify_bmp
from models.formats.plain import ImageFault, TooManyPixels
from models.image_files import read_pixels
from models.preprocess import Preprocessing
from tests.fakes.files import bmp_file
from tests.fakes.images import encoded

LIMIT = 1_000_000
PALETTE = b"".join(bytes((i, i, i, 0)) for i in (0, 50, 100, 150)) + bytes(48)


def seen(data: bytes, side: int = 4) -> Any:
    return read_pixels(data, Preprocessing(side, side, (0.5,), (0.5,), 1))[:, :, 0].tolist()


def test_run_lengths_are_decoded() -> None:
    """Runs, literals, ends of lines, a jump, and the end, as Microsoft's documentation has them."""
    lines = [
        b"\4\1\0\0",  # the lowest line: a run of four
        b"\0\3\1\2\3\0\1\1\0\0",  # a literal of three with its padding, and a run
        b"\1\2\0\2\1\1",  # a run, and a jump to the right by one and up by one
        b"\1\3\0\1",  # a run in the last line, and the end
    ]
    expected = [[0, 0, 150, 0], [100, 0, 0, 0], [50, 100, 150, 50], [50, 50, 50, 50]]
    assert seen(bmp_file(4, 4, 8, 1, PALETTE, b"".join(lines))) == expected


def test_half_byte_run_lengths_are_decoded() -> None:
    """RLE4's runs take their two halves in turn, and literals have two pixels a byte."""
    lines = [b"\3\x12\1\0\0\0", b"\0\4\x12\x30\0\0", b"\4\x11\0\0", b"\4\x32\0\1"]
    expected = [[150, 100, 150, 100], [50] * 4, [50, 100, 150, 0], [50, 100, 50, 0]]
    assert seen(bmp_file(4, 4, 4, 2, PALETTE, b"".join(lines))) == expected


def test_lines_are_padded_again() -> None:
    """A width that is no multiple of four comes out in its columns."""
    lines = b"\1\1\1\2\1\3\0\0" * 3
    assert seen(bmp_file(3, 3, 8, 1, PALETTE, lines + b"\0\1"), 3) == [[50, 100, 150]] * 3


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (b"\1\1" * 10, "truncated or corrupt"),
        (b"\0\2\xff\xff", "truncated or corrupt"),
        (b"\0\x09abc", "truncated or corrupt"),
        (b"\0\2\0\0" * (MAX_RUNS + 1), f"more than {MAX_RUNS} runs"),
    ],
)
def test_run_lengths_are_bounded(runs: bytes, message: str) -> None:
    """Data that end too early, leave the picture, or go on without an end are refused."""
    with pytest.raises(ImageFault, match=message):
        simplify_bmp(bmp_file(4, 4, 8, 1, PALETTE, runs), LIMIT)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((24, 4), "compression JPEG"),
        ((24, 99), "compression 99"),
        ((2, 0), "pixels of 2 bits"),
        ((4, 1), "pixels of 4 bits"),
    ],
)
def test_variants_are_named(fields: tuple[int, int], message: str) -> None:
    """What cannot be read is refused in words that name it."""
    with pytest.raises(ImageFault, match=message):
        simplify_bmp(bmp_file(4, 4, *fields, PALETTE, bytes(64)), LIMIT)


def test_unusual_bit_fields_are_named() -> None:
    """Masks that Pillow does not know are a variant, and not corrupt."""
    masks = struct.pack("<III", 0x3FF00000, 0xFFC00, 0x3FF)
    with pytest.raises(ImageFault, match="bit fields"):
        seen(bmp_file(4, 4, 32, 3, b"", masks + bytes(64)))


def test_a_header_of_unknown_size_is_named() -> None:
    """Headers have known sizes."""
    data = encoded(Image.new("RGB", (4, 4)), "BMP")
    with pytest.raises(ImageFault, match="header of 99 bytes"):
        simplify_bmp(data[:14] + struct.pack("<I", 99) + data[18:], LIMIT)


def test_the_size_is_limited_in_either_direction() -> None:
    """A negative height means top to bottom, and counts."""
    with pytest.raises(TooManyPixels, match="2000 x 2000"):
        simplify_bmp(bmp_file(2000, -2000, 24, 0, b"", b""), LIMIT)


def test_an_embedded_profile_is_found() -> None:
    """Version 5 of the header says where it lies."""
    header = bytearray(124)
    struct.pack_into("<IiiHHI", header, 0, 124, 4, 4, 1, 24, 0)
    header[56:60] = b"DEBM"
    struct.pack_into("<II", header, 112, 124 + 48, 7)
    data = struct.pack("<2sIII", b"BM", 0, 0, 138) + bytes(header) + bytes(48) + b"profile"
    assert simplify_bmp(data, LIMIT).profile == b"profile"
