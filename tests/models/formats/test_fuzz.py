"""Walking a file's structure ends soon, with a plain file or a fault, whatever the bytes are."""

import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.formats.plain import ImageFault, PlainFile
from models.image_files import read_pixels
from models.image_formats import FORMATS, simplify
from models.preprocess import Preprocessing
from tests.fakes.files import bmp_file
from tests.fakes.images import encoded, random_image

LIMIT = 100_000
SECONDS = 1.0  # for a file of a few kilobytes, on a busy machine
SEEN = Preprocessing(32, 32, (0.5,) * 3, (0.5,) * 3, color="srgb")
SMALL = random_image(size=(24, 20))
SOUND = {
    "JPEG": encoded(SMALL, "JPEG", exif=Image.Exif(), comment="x"),
    "progressive JPEG": encoded(SMALL, "JPEG", progressive=True),
    "PNG": encoded(SMALL),
    "palette PNG": encoded(SMALL.convert("P"), transparency=b"\x80\0"),
    "GIF": encoded(SMALL, "GIF", save_all=True, append_images=[random_image(1)], comment=b"x" * 300),
    "WEBP": encoded(SMALL, "WEBP", save_all=True, append_images=[random_image(1, (24, 20))], exif=Image.Exif()),
    "BMP": encoded(SMALL, "BMP"),
    "RLE BMP": bmp_file(4, 4, 8, 1, bytes(64), b"\4\1\0\0\0\3\1\2\3\0\1\1\0\0\1\2\0\2\1\1\1\3\0\1"),
    "TIFF": encoded(SMALL, "TIFF", compression="tiff_lzw"),
    "grey TIFF": encoded(SMALL.convert("F"), "TIFF"),
    "JPEG TIFF": encoded(SMALL, "TIFF", compression="jpeg"),
}
SIGNATURES = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"RIFF\xff\0\0\0WEBP",
    b"GIF89a",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"II+\0",
)


def walk(data: bytes) -> PlainFile | None:
    started = time.monotonic()
    plain = None
    with suppress(ImageFault):
        plain = simplify(data, LIMIT)
    assert time.monotonic() - started < SECONDS
    return plain


@settings(max_examples=300, deadline=None)
@given(signature=st.sampled_from(SIGNATURES), rest=st.binary(max_size=3000))
def test_any_bytes_end(signature: bytes, rest: bytes) -> None:
    """What follows a signature may be anything."""
    walk(signature + rest)


@pytest.mark.parametrize("name", SOUND)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_mutation_ends(name: str, data: st.DataObject) -> None:
    """Bytes of a sound file are overwritten, taken out and repeated; what is still walked decodes or is a fault."""
    sound = SOUND[name]
    file = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 6))):
        at, size = data.draw(st.integers(0, len(file))), data.draw(st.integers(0, 16))
        change = data.draw(st.sampled_from(["overwrite", "remove", "repeat"]))
        new = {"overwrite": data.draw(st.binary(max_size=16)), "remove": b"", "repeat": bytes(file[at : at + size] * 3)}
        file[at : at + size] = new[change]
    plain = walk(bytes(file))
    if plain:
        assert plain.width * plain.height <= LIMIT
        with suppress(ImageFault):
            assert read_pixels(bytes(file), SEEN, LIMIT).shape == (32, 32, 3)


def test_all_formats_are_tried() -> None:
    """The sound files are of every format."""
    assert {plain.name for data in SOUND.values() if (plain := walk(data))} == set(FORMATS)
