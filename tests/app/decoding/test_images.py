"""The image seam: whatever the bytes are, the outcome is pixels or one of three errors."""

import struct
import subprocess
import sys
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.decoding.images import decode, decode_plain, estimate_bytes, inspect
from app.errors import ImageTooLarge, UndecodableImage, UnsupportedFormat
from models.preprocess import Preprocessing, preprocess
from tests.fakes.images import encoded, random_image
from tests.fakes.imports import ROOT

SIZE = 32
PREPROCESSING = Preprocessing(size=SIZE, resize=SIZE, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
LIMIT = 1_000_000
LOSSLESS: dict[str, dict[str, object]] = {
    "PNG": {},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
    "WEBP": {"lossless": True},
}


def decoded(data: bytes, limit: int = LIMIT) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return decode(data, PREPROCESSING, limit)


@pytest.mark.parametrize("image_format", LOSSLESS)
def test_lossless_formats_give_the_same_pixels(image_format: str) -> None:
    """What a lossless format stores is what the network sees."""
    image = random_image()
    data = encoded(image, image_format, **LOSSLESS[image_format])
    assert np.array_equal(decoded(data), preprocess(image, PREPROCESSING))


def test_jpeg_and_gif_come_close() -> None:
    """Lossy formats give nearly the same pixels."""
    image = Image.new("RGB", (64, 48), (200, 40, 90))
    for image_format in ("JPEG", "GIF"):
        assert np.abs(decoded(encoded(image, image_format)).astype(int) - (200, 40, 90)).max() <= 4


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_counts_by_its_first_frame(image_format: str) -> None:
    """Later frames or pages change nothing."""
    first, second = Image.new("RGB", (32, 32), "red"), Image.new("RGB", (32, 32), "blue")
    options = {"lossless": True} if image_format == "WEBP" else {}
    data = encoded(first, image_format, save_all=True, append_images=[second], **options)
    assert tuple(decoded(data)[16, 16]) == (255, 0, 0)


@pytest.mark.parametrize("data", [b"", b"hello", b"<svg/>", b"%PDF-1.7", b"\x00" * 100, b"RIFF\x00\x00\x00\x00WAVE"])
def test_other_data_are_unsupported(data: bytes) -> None:
    """What has no allowed format's signature is refused as such."""
    with pytest.raises(UnsupportedFormat):
        decoded(data)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_truncated_image_is_undecodable(image_format: str) -> None:
    """Half a file of an allowed format is never answered."""
    data = encoded(random_image(size=(200, 200)), image_format)
    for length in (len(data) // 2, 20):
        with pytest.raises(UndecodableImage):
            decoded(data[:length])


def test_pixels_are_limited_by_the_header() -> None:
    """An image above the limit is refused before it is decoded: this one has no data to decode."""
    header = struct.pack(">II5B", 2000, 2000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    data += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    with pytest.raises(ImageTooLarge, match="2000 x 2000"):
        decoded(data)


def test_the_limit_itself_is_allowed() -> None:
    """An image of exactly the limit is answered, one pixel more is not."""
    data = encoded(Image.new("RGB", (100, 50)))
    assert decoded(data, limit=5000).shape == (SIZE, SIZE, 3)
    with pytest.raises(ImageTooLarge):
        decoded(data, limit=4999)


def progressive_with_scans(scans: int) -> bytes:
    """A progressive JPEG with the last scan repeated until it has `scans` of them."""
    data = encoded(random_image(size=(64, 64)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * (scans - data.count(b"\xff\xda") + 1) + data[-2:]


def test_scans_are_limited() -> None:
    """A JPEG of more scans than any encoder writes is refused, as each scan costs a pass over the image."""
    assert decoded(encoded(random_image(), "JPEG", progressive=True)).shape == (SIZE, SIZE, 3)
    with pytest.raises(UndecodableImage, match="1500 scans"):
        decoded(progressive_with_scans(1500))


def test_exif_orientation_is_applied() -> None:
    """A photograph taken with the camera on its side is seen upright."""
    image = Image.new("RGB", (64, 64), "black")
    image.paste("white", (0, 0, 64, 32))  # bright above
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise for viewing
    seen = decoded(encoded(image, "JPEG", exif=exif))
    assert seen[:, -1].mean() > 200  # bright on the right
    assert seen[:, 0].mean() < 50


def test_cmyk_jpeg_has_its_colours() -> None:
    """A CMYK JPEG, which Adobe's programs and Pillow store inverted, is neither inverted nor refused."""
    image = Image.new("RGB", (32, 32), (250, 250, 250)).convert("CMYK")
    assert decoded(encoded(image, "JPEG")).mean() > 240


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@settings(max_examples=60, deadline=None)
@given(edits=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_damaged_image_gives_pixels_or_an_error_of_ours(image_format: str, edits: list[tuple[int, int]]) -> None:
    """Bytes overwritten anywhere never let one of Pillow's own errors through."""
    data = bytearray(encoded(random_image(), image_format))
    for position, value in edits:
        data[position % len(data)] = value
    with suppress(ImageTooLarge, UnsupportedFormat, UndecodableImage):
        assert decoded(bytes(data)).shape == (SIZE, SIZE, 3)


def test_the_decoded_array_is_its_own() -> None:
    """The pixels are a copy of those of Pillow's image, which is closed by then."""
    array = decoded(encoded(random_image()))
    assert isinstance(array.base, np.ndarray)
    assert isinstance(array.base.base, bytes)
    assert array.flags.c_contiguous


def test_memory_that_is_short_is_no_fault_of_the_image() -> None:
    """Where memory runs out, whatever the decoder calls it, the answer is 503 `overloaded` with a Retry-After."""
    program = """
import resource, sys
from PIL import Image
from app.decoding.images import decode, decode_plain, estimate_bytes, inspect
from app.errors import Overloaded
from models.preprocess import Preprocessing
from tests.fakes.images import encoded
seen = Preprocessing(32, 32, (0.5,) * 3, (0.5,) * 3)
image = Image.new("RGB", (3000, 3000))
files = [encoded(image, "PNG"), encoded(image, "WEBP"), encoded(image, "JPEG", progressive=True, subsampling=0)]
decode(encoded(Image.new("RGB", (8, 8)), "WEBP"), seen, 10**8)
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**24, resource.RLIM_INFINITY))
for file in files:
    try:
        decode(file, seen, 10**8)
    except Overloaded as error:
        print(error.status, error.code, error.headers["Retry-After"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)  # noqa: S603
    assert done.stdout.splitlines() == ["503 overloaded 1"] * 3


def test_an_inspected_image_tells_its_memory_before_it_is_decoded() -> None:
    """What is inspected can be weighed, and decodes to the same pixels."""
    data = encoded(random_image())
    plain = inspect(data, LIMIT)
    assert estimate_bytes(plain, PREPROCESSING) >= plain.width * plain.height * 4
    assert np.array_equal(decode_plain(plain, PREPROCESSING), decoded(data))
