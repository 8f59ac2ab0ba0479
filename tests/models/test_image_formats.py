"""Which image formats are read, and by what they are recognised."""

import io

import pytest
from PIL import Image

from models.image_formats import FORMATS, list_formats, recognise_format


@pytest.mark.parametrize("name", FORMATS)
def test_files_are_recognised_by_their_first_bytes(name: str) -> None:
    """What Pillow writes in a format is recognised as that format."""
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, name)
    assert recognise_format(file.getvalue()) == name


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"II+\x00", "TIFF"),
        (b"MM\x00+", "TIFF"),
        (b"GIF87a", "GIF"),
        (b"RIFF\n\n\n\nWEBP", "WEBP"),
        (b"RIFF\x00\x00\x00\x00WAVE", None),
        (b"GIF88a", None),
        (b" BM", None),
        (b"", None),
    ],
)
def test_only_the_beginning_counts(data: bytes, name: str | None) -> None:
    """Both TIFF variants and GIF versions are known; other data are no image."""
    assert recognise_format(data) == name


def test_people_read_the_usual_names() -> None:
    """Messages list the formats as people write them."""
    assert list_formats() == "JPEG, PNG, WebP, GIF, BMP, TIFF"
