"""Preprocessing: from an opened `PIL.Image.Image` to the network's pixels.

Owns colour conversion, resizing and cropping. The checkpoint stores the settings. Training and serving call the same
functions, so both see the same pixels. No module here imports torch, so that a process that decodes starts fast.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

Pixels = NDArray[np.uint8]

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
MODES = {1: "L", 3: "RGB"}
TURNS = {  # by EXIF orientation: what makes the stored picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# A 1 x 50,000,000 image resized by its shorter side would need terabytes. Past this ratio of long to
# short side the middle is cut out first: the central crop never sees more than a square of it.
MAX_ASPECT_RATIO = 4
# A JPEG far larger than needed is decoded at a half, a quarter or an eighth (by its DCT), as long as it
# stays twice as large as the resized image. For 48 photographs enlarged 2 to 8 times that moved a pixel
# by 0.24 of 255 in the mean and 8 at most, and saved a half to four fifths of the CPU time from 4 times
# on: `python -m benchmarks.draft PHOTOS`.
DRAFT_FACTOR = 2


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Resize the shorter side to `resize` pixels, crop the central `size` x `size`, normalise.

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
        if self.crop != "center" or self.antialias is not True:
            raise ValueError(f"crop is {self.crop!r} and antialias {self.antialias}, but must be 'center' and true")


def preprocess(image: Image.Image, preprocessing: Preprocessing) -> Pixels:
    """The image as the network's (size, size, channels) uint8 pixels.

    Same as torchvision's `Resize(resize)` and `CenterCrop(size)` on the PIL image, to the last bit, up
    to an aspect ratio of MAX_ASPECT_RATIO and for anything but JPEGs of several times the size. Raises
    what Pillow raises where the image's data are broken: OSError, SyntaxError or ValueError.
    """
    square = _crop(_decode_resized(image, preprocessing.resize, preprocessing), preprocessing.size)
    return _to_array(square, preprocessing)


def resize_whole(image: Image.Image, shorter: int, preprocessing: Preprocessing) -> Pixels:
    """The image as (H, W, channels) uint8 pixels, the shorter side of which is `shorter`: nothing is cropped.

    For networks that take images of any size. Cuts, decodes and raises as `pixels` does.
    """
    return _to_array(_decode_resized(image, shorter, preprocessing), preprocessing)


def _decode_resized(image: Image.Image, shorter: int, preprocessing: Preprocessing) -> Image.Image:
    image.draft(image.mode, (DRAFT_FACTOR * shorter, DRAFT_FACTOR * shorter))
    flat = _flatten_alpha(_cut_middle(_apply_orientation(image)), MODES[preprocessing.channels])
    return _resize(flat, shorter, preprocessing.interpolation)


def _to_array(image: Image.Image, preprocessing: Preprocessing) -> Pixels:
    channels = preprocessing.channels
    return np.asarray(_to_mode(image, MODES[channels])).reshape(image.height, image.width, channels)


def _flatten_alpha(image: Image.Image, mode: str) -> Image.Image:
    """Opaque, 8 bits a channel, in `mode` or in grey, which is resized as such: alpha is put on white."""
    if image.mode.startswith("I") or image.mode == "F":
        return _to_eight_bit(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image if image.mode == "L" else _to_mode(image, mode)


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    """Pillow's `convert` would copy an image that is in the mode already."""
    return image if image.mode == mode else image.convert(mode)


def _apply_orientation(image: Image.Image) -> Image.Image:
    """Turned as EXIF says; a sound picture with broken EXIF is left as it is stored.

    Pillow's own `exif_transpose` also writes the other tags anew and fails on odd ones, which are not needed.
    """
    image.load()
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # what the parser meets, it raises: SyntaxError, struct.error and more
        return image
    return image if turn is None else image.transpose(turn)


def _to_eight_bit(image: Image.Image) -> Image.Image:
    """Deep grayscale as 8 bits: integers from 16 bits, floats from [0, 1] (or [0, 255] if any exceeds 1).

    Pillow's own conversion clips at 255 instead of scaling, which turns most such images white.
    """
    values: NDArray[Any] = np.asarray(image)
    if image.mode == "F":
        finite = np.nan_to_num(values, nan=0.0, posinf=255.0, neginf=0.0)
        grey = np.clip(finite * (255 if finite.max() <= 1 else 1), 0, 255).round().astype(np.uint8)
    else:
        grey = (np.clip(values, 0, 65535) >> 8).astype(np.uint8)
        if isinstance(transparent := image.info.get("transparency"), int):
            grey[values == transparent] = 255
    return Image.fromarray(grey)


def _cut_middle(image: Image.Image) -> Image.Image:
    width, height = image.size
    limit = MAX_ASPECT_RATIO * min(width, height)
    if max(width, height) <= limit:
        return image
    left, top = max(0, (width - limit) // 2), max(0, (height - limit) // 2)
    return image.crop((left, top, left + min(width, limit), top + min(height, limit)))


def _resize(image: Image.Image, shorter: int, interpolation: str) -> Image.Image:
    width, height = image.size
    if min(width, height) == shorter:
        return image
    if width <= height:
        size = (shorter, int(shorter * height / width))
    else:
        size = (int(shorter * width / height), shorter)
    return image.resize(size, INTERPOLATIONS[interpolation])


def _crop(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    if width == height == size:
        return image
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))
