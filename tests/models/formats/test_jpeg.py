"""JPEG's markers: what is kept of a file, and what it may cost."""

import re
import struct

import numpy as np
import pytest
from PIL import Image

from models.formats.jpeg import MAX_TABLE_BYTES, simplify_jpeg
from models.formats.plain import MAX_PARTS, MAX_PROFILE_BYTES, ImageFault, TooManyPixels
from models.image_files import read_pixels
from models.preprocess import Preprocessing
from tests.fakes.files import jpeg_segment, with_segments
from tests.fakes.images import encoded, random_image

LIMIT = 1_000_000
SEEN = Preprocessing(32, 32, (0.5,) * 3, (0.5,) * 3)
PICTURE = encoded(random_image(), "JPEG")
EXIF = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 274, 3, 1, 6, 0, 0)


def icc_segments(profile: bytes, parts: int) -> list[bytes]:
    size = -(-len(profile) // parts)
    return [
        jpeg_segment(0xE2, b"ICC_PROFILE\0" + bytes((i + 1, parts)) + profile[i * size : (i + 1) * size])
        for i in range(parts)
    ]


def test_what_follows_the_picture_is_not_looked_at() -> None:
    """A second picture, scans of one, or a film behind the end change nothing."""
    plain = simplify_jpeg(PICTURE, LIMIT)
    for trailer in (PICTURE, b"\xff\xda" * 500, bytes(100_000)):
        assert simplify_jpeg(PICTURE + trailer, LIMIT) == plain


def test_metadata_are_dropped_but_for_orientation_and_profile() -> None:
    """Of all metadata the orientation of the first EXIF and the profile are known, whatever their order."""
    profile = bytes(range(256)) * 3
    segments = [
        jpeg_segment(0xFE, b"hello"),
        jpeg_segment(0xE1, EXIF),
        jpeg_segment(0xE1, EXIF[:-5] + b"\3" + EXIF[-4:]),
    ]
    found = simplify_jpeg(with_segments(PICTURE, *segments, *reversed(icc_segments(profile, 3))), LIMIT)
    assert found.data == simplify_jpeg(PICTURE, LIMIT).data
    assert (found.orientation, found.profile) == (6, profile)


def test_profiles_with_missing_parts_or_too_many_bytes_are_ignored() -> None:
    """A profile is taken whole or not at all."""
    assert simplify_jpeg(with_segments(PICTURE, *icc_segments(b"x" * 100, 3)[:2]), LIMIT).profile is None
    assert simplify_jpeg(with_segments(PICTURE, *icc_segments(bytes(MAX_PROFILE_BYTES), 80)), LIMIT).profile is None


def test_adobe_s_segment_decides_the_colours() -> None:
    """An RGB JPEG, which Adobe's segment marks as such, keeps its colours."""
    image = Image.new("RGB", (32, 32), (200, 40, 90))
    data = encoded(image, "JPEG", keep_rgb=True, quality=100)
    assert b"Adobe" in simplify_jpeg(data, LIMIT).data
    assert np.abs(read_pixels(data, SEEN).astype(int) - (200, 40, 90)).max() <= 2


@pytest.mark.parametrize(
    ("marker", "body", "message"),
    [
        (0xC3, b"\x08\0\x20\0\x20\1\1\x11\0", "lossless"),
        (0xC5, b"\x08\0\x20\0\x20\1\1\x11\0", "hierarchical"),
        (0xC1, b"\x0c\0\x20\0\x20\1\1\x11\0", "samples of 12 bits"),
        (0xC0, b"\x08\0\0\0\x20\1\1\x11\0", "height behind the picture"),
        (0xC0, b"\x08\0\x20\0\x20\2\1\x11\0\2\x11\0", "2 components"),
    ],
)
def test_variants_are_named(marker: int, body: bytes, message: str) -> None:
    """What cannot be read is refused in words that name it, and not as corrupt."""
    with pytest.raises(ImageFault, match=message) as caught:
        simplify_jpeg(with_segments(PICTURE, jpeg_segment(marker, body)), LIMIT)
    assert "corrupt" not in str(caught.value)


def test_segments_and_tables_are_bounded() -> None:
    """A file of a hundred thousand EXIF segments is read, one of more than any writer makes is refused."""
    flood = jpeg_segment(0xE1, b"Exif\0\0M")
    assert simplify_jpeg(with_segments(PICTURE, flood * 100_000), LIMIT).data == simplify_jpeg(PICTURE, LIMIT).data
    for segment in (flood, jpeg_segment(0xFE)):
        with pytest.raises(ImageFault, match=f"more than {MAX_PARTS} segments"):
            simplify_jpeg(with_segments(PICTURE, segment * (MAX_PARTS + 1)), LIMIT)
    with pytest.raises(ImageFault, match=f"more than {MAX_TABLE_BYTES} bytes of tables"):
        simplify_jpeg(with_segments(PICTURE, jpeg_segment(0xDB, b"\0" + bytes(64)) * 1000), LIMIT)


def test_segments_between_scans_are_bounded() -> None:
    """The same holds behind the first scan."""
    data = encoded(random_image(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    with pytest.raises(ImageFault, match="segments"):
        simplify_jpeg(data[:last] + jpeg_segment(0xE1) * (MAX_PARTS + 1) + data[last:], LIMIT)


def test_the_frame_s_size_is_limited() -> None:
    """A frame above the limit is refused by its header."""
    with pytest.raises(TooManyPixels, match="40 x 50"):
        simplify_jpeg(PICTURE, 1999)


def test_coefficients_of_several_scans_take_memory() -> None:
    """A progressive file keeps two bytes for each sample while it is decoded: here 1.5 samples a pixel."""
    progressive = encoded(random_image(size=(64, 64)), "JPEG", progressive=True, subsampling="4:2:0")
    assert simplify_jpeg(progressive, LIMIT).buffer_bytes == 64 * 64 * 3
    assert simplify_jpeg(PICTURE, LIMIT).buffer_bytes == 0


@pytest.mark.parametrize("cut", range(2, 24))
def test_a_cut_header_is_truncated(cut: int) -> None:
    """A file that ends before its first scan says so."""
    with pytest.raises(ImageFault, match=re.escape("truncated or corrupt")):
        simplify_jpeg(PICTURE[:cut], LIMIT)
