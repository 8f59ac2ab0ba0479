"""GIF and WebP: the first picture of a file, and what it may cost."""

import struct

import numpy as np
import pytest
from PIL import Image

from models.formats.gif import simplify_gif
from models.formats.plain import MAX_PARTS, ImageFault, TooManyPixels
from models.formats.webp import simplify_webp
from models.image_files import read_pixels
from models.preprocess import Preprocessing
from tests.fakes.images import encoded, random_image

LIMIT = 1_000_000
SEEN = Preprocessing(32, 32, (0.5,) * 3, (0.5,) * 3)
GIF, WEBP = encoded(random_image(), "GIF"), encoded(random_image(), "WEBP", lossless=True)
EXIF = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 274, 3, 1, 6, 0, 0)
HEAD = 13 + (3 << (GIF[10] & 7) + 1)


def animation(image_format: str) -> bytes:
    frames = [random_image(seed) for seed in range(4)]
    return encoded(frames[0], image_format, save_all=True, append_images=frames[1:], lossless=True)


def webp_of(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


@pytest.mark.parametrize("image_format", ["GIF", "WEBP"])
def test_later_pictures_are_dropped(image_format: str) -> None:
    """An animation is reduced to its first picture, and a cut behind that one does not matter for a GIF."""
    data = animation(image_format)
    plain = (simplify_gif if image_format == "GIF" else simplify_webp)(data, LIMIT)
    first = read_pixels(encoded(random_image(0), image_format, lossless=True), SEEN)
    assert np.array_equal(read_pixels(data, SEEN), first)
    assert (plain.width, plain.height) == (40, 50)


def test_extensions_of_a_gif_are_passed_over() -> None:
    """Comments of any length and other blocks before the picture change nothing but its transparent colour."""
    comment = b"!\xfe" + (b"\xff" + b"x" * 255) * 1000 + b"\0"
    control = b"!\xf9\4\1\0\0\0\0"
    expected = simplify_gif(GIF[:HEAD] + control + GIF[HEAD:], LIMIT)
    assert simplify_gif(GIF[:HEAD] + comment + b"\0\0" + control + comment + GIF[HEAD:], LIMIT) == expected


@pytest.mark.parametrize("flood", [b"!\xfe\0" * (MAX_PARTS + 1), b"!\xfe" + b"\1a" * (MAX_PARTS + 1) + b"\0"])
def test_blocks_of_a_gif_are_bounded(flood: bytes) -> None:
    """A flood of extensions, or of blocks within one, is refused."""
    with pytest.raises(ImageFault, match=f"more than {MAX_PARTS} segments"):
        simplify_gif(GIF[:HEAD] + flood + GIF[HEAD:], LIMIT)


def test_a_picture_beyond_the_screen_counts_with_its_edge() -> None:
    """The limit of pixels holds for the screen as the picture enlarges it."""
    at = GIF.index(b",", HEAD)
    data = GIF[: at + 1] + struct.pack("<4H", 0, 0, 2000, 2000) + GIF[at + 9 :]
    with pytest.raises(TooManyPixels, match="2000 x 2000"):
        simplify_gif(data, LIMIT)


@pytest.mark.parametrize("data", [GIF[:12], GIF[:HEAD], GIF[:HEAD] + b";", GIF[:HEAD] + b"!\xfe\4ab", GIF[: HEAD + 10]])
def test_a_gif_without_a_picture_is_corrupt(data: bytes) -> None:
    """A file that ends before its picture's data says so."""
    with pytest.raises(ImageFault, match="truncated or corrupt"):
        simplify_gif(data, LIMIT)


def test_metadata_of_a_webp_are_known_and_dropped() -> None:
    """Orientation and profile are read, and neither they nor unknown chunks are in the plain file."""
    canvas = bytes([0b111100, 0, 0, 0]) + (39).to_bytes(3, "little") + (49).to_bytes(3, "little")
    pixels = WEBP[20 : 20 + int.from_bytes(WEBP[16:20], "little")]
    chunks = [
        (b"VP8X", canvas),
        (b"ICCP", b"profile"),
        (b"JUNK", b"x"),
        (b"VP8L", pixels),
        (b"EXIF", b"Exif\0\0" + EXIF),
    ]
    found = simplify_webp(webp_of(*chunks), LIMIT)
    assert (found.orientation, found.profile, found.width, found.height) == (6, b"profile", 40, 50)
    assert not any(word in found.data for word in (b"ICCP", b"EXIF", b"JUNK"))


def test_chunks_of_a_webp_are_bounded() -> None:
    """A flood of chunks is refused."""
    with pytest.raises(ImageFault, match=f"more than {MAX_PARTS} segments"):
        simplify_webp(webp_of((b"VP8X", bytes(10)), *[(b"JUNK", b"")] * (MAX_PARTS + 1)), LIMIT)


@pytest.mark.parametrize("data", [WEBP[:16], WEBP[:30], webp_of((b"VP8X", bytes(10))), webp_of((b"VP8 ", bytes(20)))])
def test_a_webp_without_a_picture_is_corrupt(data: bytes) -> None:
    """A file that ends before or within its picture says so."""
    with pytest.raises(ImageFault, match="truncated or corrupt"):
        simplify_webp(data, LIMIT)


def test_a_canvas_is_limited_and_takes_memory() -> None:
    """A canvas above the limit is refused by the header; below, the decoder's two canvases are counted."""
    canvas = bytes(4) + (1999).to_bytes(3, "little") * 2
    with pytest.raises(TooManyPixels, match="2000 x 2000"):
        simplify_webp(webp_of((b"VP8X", canvas)), LIMIT)
    assert simplify_webp(WEBP, LIMIT).buffer_bytes == 40 * 50 * 8


def test_alpha_of_both_is_put_on_white() -> None:
    """Transparent parts are white in either format."""
    image = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 32, 16))
    for image_format in ("GIF", "WEBP"):
        pixels = read_pixels(encoded(image, image_format, lossless=True), SEEN)
        assert (pixels[0, 0].tolist(), pixels[31, 0].tolist()) == ([0, 0, 255], [255, 255, 255])
