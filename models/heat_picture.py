"""An image with a heat map over it, as a PNG file's bytes.

Owns where the map lies on the image, which depends on the part of it that the network saw, and its colours. Nothing
here imports torch, so that a process that decodes starts fast.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.colours import flatten, to_mode
from models.formats.plain import GreyScale
from models.preprocess import Pixels, Preprocessing, locate_square
from models.profiles import to_srgb

MAX_PICTURE_PIXELS = 2**22  # a larger image is drawn smaller: a PNG of it has up to 3 bytes a pixel
BAND_PIXELS = 2**17  # that are coloured at a time
OPACITY = 0.7  # of the colour where the map is 1; where it is 0 the image shows as it is
COLOURS = ((70, 0, 130), (215, 40, 80), (250, 150, 20), (255, 240, 90))  # at 0, 1/3, 2/3 and 1; each one is lighter
PNG_OPTIONS = {"compress_level": 1}  # the fastest that compresses


def picture_size(width: int, height: int) -> tuple[int, int]:
    """The size of the picture of an image: its own, or in its proportions with at most MAX_PICTURE_PIXELS."""
    if width * height <= MAX_PICTURE_PIXELS:
        return width, height
    scale = (MAX_PICTURE_PIXELS / (width * height)) ** 0.5
    shorter = max(1, int(min(width, height) * scale))
    longer = min(int(max(width, height) * scale), MAX_PICTURE_PIXELS // shorter)
    return (longer, shorter) if width >= height else (shorter, longer)


def draw_heat_picture(
    image: Image.Image,
    heat: Pixels,
    preprocessing: Preprocessing,
    *,
    profile: bytes | None = None,
    grey: GreyScale | None = None,
) -> bytes:
    """A PNG of an upright image in sRGB with `heat`, (rows, columns) uint8, over the part that the network saw."""
    size = picture_size(*image.size)
    square = locate_square(*image.size, preprocessing)
    flat = flatten(image, grey)
    resized = flat if flat.size == size else flat.resize(size, Image.Resampling.BILINEAR)
    picture = to_mode(to_srgb(resized, profile), "RGB")
    if picture is image:  # the caller's image stays as it is
        picture = picture.copy()
    left, top, right, bottom = square
    columns = _place(size[0], left / image.width, right / image.width, heat.shape[1])
    rows = _place(size[1], top / image.height, bottom / image.height, heat.shape[0])
    _colour(picture, rows, (heat / 255).astype(np.float32), columns)
    file = io.BytesIO()
    picture.save(file, "PNG", **PNG_OPTIONS)
    return file.getvalue()


def _place(pixels: int, start: float, end: float, cells: int) -> NDArray[np.float32]:
    """(pixels, cells) weights of a bilinear interpolation; 0 in the pixels whose centres lie outside of [start, end].

    The cells divide [start, end] evenly; both are shares of the pixels' length.
    """
    shares = ((np.arange(pixels) + 0.5) / pixels - start) / (end - start)
    position = np.clip(shares * cells - 0.5, 0, cells - 1)
    distance = np.abs(position[:, None] - np.arange(cells))
    is_seen = (shares >= 0) & (shares <= 1)
    weights: NDArray[np.float32] = (np.clip(1 - distance, 0, None) * is_seen[:, None]).astype(np.float32)
    return weights


def _colour(
    picture: Image.Image, rows: NDArray[np.float32], heat: NDArray[np.float32], columns: NDArray[np.float32]
) -> None:
    """Blends the colours over the picture, a band of rows at a time."""
    stops = np.linspace(0, 1, len(COLOURS))
    table = np.stack([np.interp(np.linspace(0, 1, 256), stops, channel) for channel in np.transpose(COLOURS)], axis=1)
    across = heat @ columns.T  # (rows of the map, width)
    count = max(1, BAND_PIXELS // picture.width)
    for top in range(0, picture.height, count):
        bottom = min(picture.height, top + count)
        band = np.asarray(picture.crop((0, top, picture.width, bottom)))
        values = np.clip(rows[top:bottom] @ across, 0, 1)
        opacity = (OPACITY * values)[..., None]
        colours = table.astype(np.float32)[(255 * values).round().astype(np.uint8)]
        blended = band + opacity * (colours - band)
        picture.paste(Image.fromarray(blended.round().astype(np.uint8)), (0, top))
