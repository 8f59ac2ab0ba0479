"""The picture of a heat map: where the map lies on the image, and what is coloured."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.formats.plain import ImageFault
from models.heat_picture import MAX_PICTURE_PIXELS, draw_heat_picture, picture_size
from models.image_files import draw_picture, upright_size
from models.image_formats import simplify
from models.preprocess import Preprocessing, locate_square, preprocess
from tests.fakes.images import encoded, random_image

HOT = np.full((4, 4), 255, np.uint8)


def preprocessing(crop: str, size: int = 32, resize: int = 32) -> Preprocessing:
    return Preprocessing(size, resize, (0.5,) * 3, (0.25,) * 3, crop=crop)


def draw(image: Image.Image, heat: NDArray[np.uint8], crop: str, **settings: int) -> NDArray[np.uint8]:
    data = draw_heat_picture(image, heat, preprocessing(crop, **settings))
    return np.asarray(Image.open(io.BytesIO(data)))


def changed(image: Image.Image, heat: NDArray[np.uint8], crop: str, **settings: int) -> tuple[int, ...]:
    """Left, top, right and bottom of what is coloured."""
    difference = (draw(image, heat, crop, **settings) != np.asarray(image)).any(axis=2)
    columns, rows = np.flatnonzero(difference.any(axis=0)), np.flatnonzero(difference.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@pytest.mark.parametrize(
    ("crop", "size", "settings", "right"),
    [
        ("center", (90, 30), {}, (30, 0, 60, 30)),
        ("center", (30, 90), {}, (0, 30, 30, 60)),
        ("center", (80, 80), {"resize": 40}, (8, 8, 72, 72)),
        ("center", (600, 30), {}, (285, 0, 315, 30)),
        ("squash", (90, 30), {}, (0, 0, 90, 30)),
        ("pad", (90, 30), {}, (0, 0, 90, 30)),
        ("pad", (30, 90), {}, (0, 0, 30, 90)),
    ],
)
def test_only_what_the_network_saw_is_coloured(
    crop: str, size: tuple[int, int], settings: dict[str, int], right: tuple[int, ...]
) -> None:
    """A hot map colours the central square, or the whole image."""
    assert changed(Image.new("RGB", size), HOT, crop, **settings) == right


@pytest.mark.parametrize("crop", ["center", "squash", "pad"])
@pytest.mark.parametrize("size", [(90, 30), (31, 57), (200, 40), (500, 64), (64, 64)])
def test_the_square_is_where_preprocessing_takes_its_pixels_from(crop: str, size: tuple[int, int]) -> None:
    """A white spot in the image appears in the network's pixels where the square says, within a pixel."""
    left, top, right, bottom = locate_square(*size, p := preprocessing(crop))
    for share_x, share_y in ((0.3, 0.6), (0.5, 0.5), (0.6, 0.45)):
        x, y = left + share_x * (right - left), top + share_y * (bottom - top)
        if not (0 <= x < size[0] and 0 <= y < size[1]):
            continue
        rows, columns = np.mgrid[: size[1], : size[0]] + 0.5
        distance = ((columns - x) / (right - left)) ** 2 + ((rows - y) / (bottom - top)) ** 2
        spot = Image.fromarray((255 * np.exp(-distance / 0.01)).astype(np.uint8)).convert("RGB")
        pixels = preprocess(spot, p)[:, :, 0].astype(float)
        inside = pixels if crop != "pad" else np.where(pixels == 128, 0, pixels)
        row, column = np.unravel_index(inside.argmax(), inside.shape)
        assert abs((column + 0.5) / 32 - share_x) < 2 / 32
        assert abs((row + 0.5) / 32 - share_y) < 2 / 32


def test_each_cell_lies_at_its_place() -> None:
    """A hot corner of the map colours that corner of the picture most, and a map of zeros colours nothing."""
    grey = Image.new("RGB", (64, 48), (128, 128, 128))
    heat = np.zeros((3, 4), np.uint8)
    assert np.array_equal(draw(grey, heat, "squash"), np.asarray(grey))
    heat[2, 0] = 255
    difference = np.abs(draw(grey, heat, "squash").astype(int) - 128).sum(axis=2)
    assert np.unravel_index(difference.argmax(), difference.shape)[0] >= 32
    assert difference[40, 8] > 100
    assert not difference[:16].any()
    assert not difference[:, 32:].any()


def test_a_map_is_interpolated_bilinearly() -> None:
    """Between the centres of two cells the heat is the mean of both: the picture of one row is a ramp."""
    black = Image.new("RGB", (256, 1))
    red = draw(black, np.array([[0, 255]], np.uint8), "squash")[0, :, 0].astype(int)
    assert not red[:64].any()
    assert (np.diff(red[64:192]) >= 0).all()
    assert len(set(red[192:].tolist())) == 1


def test_large_images_are_drawn_smaller() -> None:
    """A picture has a bounded number of pixels and the proportions of its image."""
    assert picture_size(2048, 2048) == (2048, 2048)
    for width, height in ((4000, 3000), (50_000_000, 1), (1, 50_000_000), (5_000_000, 10)):
        small = picture_size(width, height)
        assert 1 <= small[0] * small[1] <= MAX_PICTURE_PIXELS
        if min(width, height) > 1:
            assert small[0] / small[1] == pytest.approx(width / height, rel=0.5)
    large = simplify(encoded(random_image(size=(3000, 2000)), "JPEG"), 2**26)
    picture = Image.open(io.BytesIO(draw_picture(large, preprocessing("center"), HOT)))
    assert picture.size == picture_size(3000, 2000)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F", "LAB"])
def test_every_mode_is_drawn(mode: str) -> None:
    """The picture is RGB whatever the image's mode is."""
    if mode == "I;16":
        image = Image.fromarray(np.full((10, 20), 30_000, np.uint16))
    elif mode == "LAB":
        image = Image.new("LAB", (20, 10))
    else:
        image = random_image(size=(20, 10)).convert(mode)
    assert draw(image, HOT, "squash").shape == (10, 20, 3)


def test_orientation_exchanges_the_sides() -> None:
    """The size of an upright image has its sides exchanged from orientation 5 on."""
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        plain = simplify(encoded(Image.new("RGB", (20, 10)), exif=exif), 1_000)
        assert upright_size(plain) == ((10, 20) if orientation >= 5 else (20, 10))
        assert Image.open(io.BytesIO(draw_picture(plain, preprocessing("pad"), HOT))).size == upright_size(plain)


def test_a_truncated_file_is_a_fault() -> None:
    """As when it is decoded for a prediction."""
    data = encoded(random_image(), "JPEG")
    with pytest.raises(ImageFault):
        draw_picture(simplify(data[: len(data) * 2 // 3], 10_000), preprocessing("pad"), HOT)
