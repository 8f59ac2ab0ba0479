"""Preprocessing: from an image in memory, which is upright, to the network's pixels.

Owns its settings, which the checkpoint stores, and resizing and cropping. Training and serving call the same functions,
so both see the same pixels. Nothing here imports torch, so that a process that decodes starts fast.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.colours import flatten, to_mode
from models.formats.plain import GreyScale
from models.profiles import is_converted, to_srgb

Pixels = NDArray[np.uint8]

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
MODES = {1: "L", 3: "RGB"}
CROPS = ("center", "squash", "pad")
COLOURS = ("stored", "srgb")
# A 1 x 50,000,000 image resized by its shorter side would need terabytes. Past this ratio of long to
# short side the middle is cut out first: the central crop never sees more than a square of it.
MAX_ASPECT_RATIO = 4


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an image becomes `size` x `size` pixels, and how these are normalised.

    `crop` says which part of the image they show. `center`: the shorter side is resized to `resize`, and the middle is
    cut out. `squash`: both sides are resized to `size`. `pad`: the longer side is resized to `size`, and bars of the
    mean colour fill the square. With `color` as `srgb` the colours of an embedded profile are converted to sRGB. With
    `stored` a profile is ignored, as it was before checkpoints had this field.

    `mean` and `std` are per channel, on a scale of 0 to 1, `channels` is 1 (grayscale) or 3 (RGB).
    `antialias` is recorded for other readers of a checkpoint; Pillow's filters always widen with the
    scale, so it is true. Raises ValueError, naming the field, its value and the allowed range.
    """

    size: int
    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int = 3
    interpolation: str = "bilinear"
    crop: str = "center"
    antialias: bool = True
    color: str = "stored"

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 4096:
            raise ValueError(f"size is {self.size}, but must lie in 1..4096")
        if not self.size <= self.resize <= 8192:
            raise ValueError(f"resize is {self.resize}, but must lie in {self.size} (the size)..8192")
        if self.channels not in MODES:
            raise ValueError(f"channels is {self.channels}, but must be 1 (grayscale) or 3 (RGB)")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(
                f"mean and std have {len(self.mean)} and {len(self.std)} values for {self.channels} channels"
            )
        if not all(0 <= m <= 1 for m in self.mean) or not all(0 < s <= 1 for s in self.std):
            raise ValueError(f"mean is {self.mean} and std {self.std}, but must lie in [0, 1] and (0, 1]")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation is {self.interpolation!r}, but must be one of {', '.join(INTERPOLATIONS)}")
        if self.crop not in CROPS:
            raise ValueError(f"crop is {self.crop!r}, but must be one of {', '.join(CROPS)}")
        if self.color not in COLOURS:
            raise ValueError(f"color is {self.color!r}, but must be one of {', '.join(COLOURS)}")
        if self.antialias is not True:
            raise ValueError(f"antialias is {self.antialias}, but must be true")


def preprocess(
    image: Image.Image, preprocessing: Preprocessing, *, profile: bytes | None = None, grey: GreyScale | None = None
) -> Pixels:
    """The image as the network's (size, size, channels) uint8 pixels.

    `profile` is its ICC profile, and `grey` the range of deep grey samples. Same as torchvision's `Resize` and
    `CenterCrop` on the PIL image, to the last bit, up to an aspect ratio of MAX_ASPECT_RATIO and without a profile.
    """
    p = preprocessing
    if p.crop == "center":
        image = _cut_middle(image)
    resize = {"center": _crop_middle, "squash": _squash, "pad": _resize_longer}[p.crop]
    pixels = _convert(image, p, profile, grey, lambda flat: resize(flat, p))
    return _pad(pixels, p) if p.crop == "pad" else pixels


def locate_square(width: int, height: int, preprocessing: Preprocessing) -> tuple[float, float, float, float]:
    """Where the network's square lies on an upright image: left, top, right and bottom, in the image's pixels.

    With `pad` it reaches beyond the image.
    """
    p = preprocessing
    if p.crop == "squash":
        return 0.0, 0.0, float(width), float(height)
    if p.crop == "pad":
        resized = _longer_size(width, height, p.size)
        margins = [(p.size - side) // 2 for side in resized]
        boxes = [(-margin, p.size - margin) for margin in margins]
        origin, cut = (0, 0), (width, height)
    else:
        left, top, right, bottom = _middle_box(width, height)
        origin, cut = (left, top), (right - left, bottom - top)
        resized = _shorter_size(*cut, p.resize)
        boxes = [(start := round((side - p.size) / 2), start + p.size) for side in resized]
    (x0, x1), (y0, y1) = (
        (offset + start * full / side, offset + end * full / side)
        for offset, full, side, (start, end) in zip(origin, cut, resized, boxes, strict=True)
    )
    return x0, y0, x1, y1


def resize_whole(
    image: Image.Image,
    shorter: int,
    preprocessing: Preprocessing,
    *,
    profile: bytes | None = None,
    grey: GreyScale | None = None,
) -> Pixels:
    """The image as (H, W, channels) uint8 pixels, the shorter side of which is `shorter`: nothing is cropped.

    For networks that take images of any size. The rest is as in `preprocess`.
    """
    p = preprocessing
    return _convert(_cut_middle(image), p, profile, grey, lambda flat: _resize_shorter(flat, shorter, p))


def _convert(
    image: Image.Image,
    preprocessing: Preprocessing,
    profile: bytes | None,
    grey: GreyScale | None,
    resize: Callable[[Image.Image], Image.Image],
) -> Pixels:
    """(H, W, channels) pixels. Colours are converted after resizing, when the image is small."""
    channels = preprocessing.channels
    mode = MODES[channels]
    profile = profile if preprocessing.color == "srgb" else None
    flat = flatten(image, grey)
    if is_converted(flat.mode, profile):
        resized = to_srgb(resize(flat), profile)
    else:
        resized = resize(flat if flat.mode == "L" else to_mode(flat, mode))
    return np.asarray(to_mode(resized, mode)).reshape(resized.height, resized.width, channels)


def _cut_middle(image: Image.Image) -> Image.Image:
    box = _middle_box(*image.size)
    return image if box == (0, 0, *image.size) else image.crop(box)


def _middle_box(width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the middle, which is no longer than MAX_ASPECT_RATIO allows."""
    limit = MAX_ASPECT_RATIO * min(width, height)
    left, top = max(0, (width - limit) // 2), max(0, (height - limit) // 2)
    return left, top, left + min(width, limit), top + min(height, limit)


def _resize(image: Image.Image, size: tuple[int, int], preprocessing: Preprocessing) -> Image.Image:
    if image.size == size:
        return image
    return image.resize(size, INTERPOLATIONS[preprocessing.interpolation])


def _resize_shorter(image: Image.Image, shorter: int, preprocessing: Preprocessing) -> Image.Image:
    return _resize(image, _shorter_size(*image.size, shorter), preprocessing)


def _shorter_size(width: int, height: int, shorter: int) -> tuple[int, int]:
    if min(width, height) == shorter:
        return width, height
    if width <= height:
        return shorter, int(shorter * height / width)
    return int(shorter * width / height), shorter


def _crop_middle(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    resized, size = _resize_shorter(image, preprocessing.resize, preprocessing), preprocessing.size
    if resized.size == (size, size):
        return resized
    left, top = round((resized.width - size) / 2), round((resized.height - size) / 2)
    return resized.crop((left, top, left + size, top + size))


def _squash(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    size = preprocessing.size
    if image.height > MAX_ASPECT_RATIO * image.width:  # Pillow would first widen a thin image in all its rows
        image = _resize(image, (image.width, size), preprocessing)
    return _resize(image, (size, size), preprocessing)


def _resize_longer(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    return _resize(image, _longer_size(*image.size, preprocessing.size), preprocessing)


def _longer_size(width: int, height: int, longer: int) -> tuple[int, int]:
    ratio = max(width, height) / longer
    return max(1, round(width / ratio)), max(1, round(height / ratio))


def _pad(pixels: Pixels, preprocessing: Preprocessing) -> Pixels:
    """The pixels in the middle of a square of the mean colour."""
    size, (height, width, channels) = preprocessing.size, pixels.shape
    square = np.empty((size, size, channels), np.uint8)
    square[:] = [round(255 * mean) for mean in preprocessing.mean]
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = pixels
    return square
