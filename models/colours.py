"""From an image of any mode to opaque pixels of 8 bits a channel.

Owns alpha, transparent colours and deep grey. Large images are converted in bands of rows, so that no more than the
image and its result are in memory.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.formats.plain import GreyScale

BAND_PIXELS = 2**20
PIL_GREY = GreyScale(0, 65_535)  # of integers for which nothing is known
# What is white in floats without a stated range: the first for which the largest of them is not above the limit.
# Resizing and sharpening lets values go beyond white a little.
FLOAT_WHITES = {1.0: 1.0, 510.0: 255.0, 131_070.0: 65_535.0}
PLAIN_MODES = {"1": "L", "L": "L", "LA": "L", "La": "L", "CMYK": "CMYK", "LAB": "LAB"}


def flatten(image: Image.Image, grey: GreyScale | None = None) -> Image.Image:
    """The image in mode L, RGB, CMYK or LAB, with transparent parts on white.

    Alpha that is 0 everywhere was left unset by its writer, so the picture counts as opaque.
    """
    if grey or image.mode.startswith("I") or image.mode == "F":
        return _flatten_deep_grey(image, grey or (PIL_GREY if image.mode != "F" else GreyScale(None, None)))
    mode = PLAIN_MODES.get(image.mode, "RGB")
    if not image.has_transparency_data:
        return to_mode(image, mode)
    if not any(_to_rgba(band).getchannel("A").getextrema()[1] for band in _bands(image)):
        return _map_bands(image, lambda band: _to_rgba(band).convert("RGB").convert(mode), mode)
    return _map_bands(image, lambda band: _put_on_white(band).convert(mode), mode)


def to_mode(image: Image.Image, mode: str) -> Image.Image:
    """Pillow's `convert` would copy an image that is in the mode already."""
    return image if image.mode == mode else image.convert(mode)


def _to_rgba(image: Image.Image) -> Image.Image:
    return to_mode(to_mode(image, "LA") if image.mode == "La" else image, "RGBA")


def _put_on_white(image: Image.Image) -> Image.Image:
    rgba = _to_rgba(image)
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)


def _flatten_deep_grey(image: Image.Image, grey: GreyScale) -> Image.Image:
    """Pillow's own conversion clips at 255 instead of scaling, which turns most such images white."""
    if grey.low is None or grey.high is None:
        largest = max(_largest(_samples(band, grey)) for band in _bands(image))
        white = next((white for limit, white in FLOAT_WHITES.items() if largest <= limit), largest)
        grey = GreyScale(0.0, white, grey.is_inverted, grey.dtype)
    transparent = image.info.get("transparency")

    def convert(band: Image.Image) -> Image.Image:
        samples = _samples(band, grey)
        pixels = _scale(samples, grey)
        if isinstance(transparent, int):
            pixels[samples == transparent] = 255
        return Image.fromarray(pixels)

    return _map_bands(image, convert, "L")


def _samples(image: Image.Image, grey: GreyScale) -> NDArray[Any]:
    values = np.asarray(image)
    return values.view(grey.dtype) if grey.dtype else values


def _largest(samples: NDArray[Any]) -> float:
    return float(samples.max(initial=0.0, where=np.isfinite(samples)))


def _scale(samples: NDArray[Any], grey: GreyScale) -> NDArray[np.uint8]:
    """Integers are cut to their upper 8 bits, floats are rounded."""
    assert grey.low is not None
    assert grey.high is not None
    if samples.dtype.kind == "f":
        share = (samples.astype(np.float64) - grey.low) / (grey.high - grey.low)
        pixels = (np.nan_to_num(np.clip(share, 0, 1)) * 255).round().astype(np.uint8)
    else:
        scaled = (samples.astype(np.float64) - grey.low) * (256 / (grey.high - grey.low + 1))
        pixels = np.clip(scaled, 0, 255).astype(np.uint8)
    return 255 - pixels if grey.is_inverted else pixels


def _bands(image: Image.Image) -> Iterator[Image.Image]:
    """The image in bands of whole rows, from top to bottom."""
    rows = max(1, BAND_PIXELS // image.width)
    if rows >= image.height:
        yield image
        return
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(image.height, top + rows)))


def _map_bands(image: Image.Image, convert: Callable[[Image.Image], Image.Image], mode: str) -> Image.Image:
    result, top = Image.new(mode, image.size), 0
    for band in _bands(image):
        result.paste(convert(band), (0, top))
        top += band.height
    return result
