"""From an image file's bytes to the network's pixels: the one way, in training and serving alike.

Owns the calls of Pillow's decoders, and the meaning of their errors.
"""

import io
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from PIL import BmpImagePlugin, GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from models.colours import BAND_PIXELS, flatten
from models.formats.plain import ImageFault, NotEnoughMemory, PlainFile, broken
from models.heat_picture import draw_heat_picture, picture_size
from models.image_formats import FORMATS, simplify
from models.preprocess import Pixels, Preprocessing, preprocess, resize_whole

MAX_PIXELS = 2**30  # where no other limit is given
# A JPEG far larger than needed is decoded at a half, a quarter or an eighth (by its DCT), as long as it
# stays twice as large as the resized image. For 48 photographs enlarged 2 to 8 times that moved a pixel
# by 0.24 of 255 in the mean and 8 at most, and saved a half to four fifths of the CPU time from 4 times
# on: `python -m benchmarks.draft PHOTOS`.
DRAFT_FACTOR = 2
DRAFT_SCALES = (8, 4, 2, 1)
BAND_BYTES = 40  # by a pixel of a band: samples in double precision, and what becomes of them
ROW_BYTES = 16  # a pointer for each row of an image and of its copy
PROFILE_FACTOR = 4  # the profile, and tables made of it
OPENERS: dict[str, Callable[[io.BytesIO], Image.Image]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
}
DRAW_BYTES = 12  # by a pixel of a picture: resized, converted to sRGB, and its PNG file
DRAW_FIXED_BYTES = 8 * 2**20  # for the band that is coloured
Result = TypeVar("Result")
QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
TURNS = {  # by EXIF orientation: what makes the stored picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_pixels(data: bytes, preprocessing: Preprocessing, max_pixels: int = MAX_PIXELS) -> Pixels:
    """The (size, size, channels) uint8 pixels of an image file; of an animation, of its first frame.

    Raises UnknownFormat, TooManyPixels, NotEnoughMemory, and ImageFault for other files that are refused.
    """
    return decode_pixels(simplify(data, max_pixels), preprocessing)


def decode_pixels(plain: PlainFile, preprocessing: Preprocessing) -> Pixels:
    """The (size, size, channels) uint8 pixels of a plain file. Raises ImageFault and NotEnoughMemory."""
    return _decode(
        plain,
        _shorter_side(preprocessing),
        lambda image: preprocess(image, preprocessing, profile=plain.profile, grey=plain.grey),
    )


def draw_picture(plain: PlainFile, preprocessing: Preprocessing, heat: Pixels) -> bytes:
    """A PNG of a plain file's upright picture with a heat map over it; `heat` is (rows, columns) uint8.

    Raises ImageFault and NotEnoughMemory.
    """
    return _decode(
        plain,
        min(picture_size(plain.width, plain.height)),
        lambda image: draw_heat_picture(image, heat, preprocessing, profile=plain.profile, grey=plain.grey),
    )


def upright_size(plain: PlainFile) -> tuple[int, int]:
    """The width and height of the picture, as its EXIF orientation turns it."""
    return (plain.height, plain.width) if plain.orientation in QUARTER_TURNS else (plain.width, plain.height)


def estimate_draw_bytes(plain: PlainFile) -> int:
    """The memory that `draw_picture` takes at most, in bytes, beside the plain file's own."""
    width, height = picture_size(plain.width, plain.height)
    area = width * height
    between = 4 * int((area * plain.width * plain.height) ** 0.5)  # an image that is resized in one direction
    return _estimate_bytes(plain, min(width, height)) + between + DRAW_BYTES * area + DRAW_FIXED_BYTES


def read_whole(data: bytes, shorter: int, preprocessing: Preprocessing) -> Pixels:
    """An image file as (H, W, channels) uint8 pixels, the shorter side of which is `shorter`.

    Raises as `read_pixels`.
    """
    plain = simplify(data, MAX_PIXELS)
    return _decode(
        plain,
        shorter,
        lambda image: resize_whole(image, shorter, preprocessing, profile=plain.profile, grey=plain.grey),
    )


def estimate_decode_bytes(plain: PlainFile, preprocessing: Preprocessing) -> int:
    """The memory that `decode_pixels` takes at most, in bytes, beside the plain file's own."""
    return _estimate_bytes(plain, _shorter_side(preprocessing))


def _shorter_side(preprocessing: Preprocessing) -> int:
    """The least that the shorter side of the image is resized to; with `pad` it may become less."""
    return preprocessing.resize if preprocessing.crop == "center" else preprocessing.size


def _estimate_bytes(plain: PlainFile, shorter: int) -> int:
    ratio = min(plain.width, plain.height) // (DRAFT_FACTOR * shorter) if plain.name == "JPEG" else 1
    scale = next(known for known in DRAFT_SCALES if ratio >= known or known == 1)
    area = -(-plain.width // scale) * -(-plain.height // scale)
    copies = area * (plain.pixel_bytes + 4)  # the image, and its copy when it is turned or its colours are converted
    bands = BAND_BYTES * min(area, BAND_PIXELS)
    rows = ROW_BYTES * (plain.width + plain.height)
    return copies + bands + rows + plain.buffer_bytes + PROFILE_FACTOR * len(plain.profile or b"")


def _decode(plain: PlainFile, shorter: int, use: Callable[[Image.Image], Result]) -> Result:
    # The limit is ours, and has been checked. Pillow's own is one for the whole process.
    Image.MAX_IMAGE_PIXELS = None
    try:
        return use(_load_upright(plain, shorter))
    except ImageFault:
        raise
    # For broken data Pillow's decoders raise many classes, by format: OSError, SyntaxError, struct.error, zlib.error,
    # KeyError and more. All of them mean that these bytes cannot be decoded, unless memory was short.
    except Exception as error:
        name = FORMATS[plain.name].name
        if isinstance(error, MemoryError) or not _can_allocate(_estimate_bytes(plain, shorter)):
            raise NotEnoughMemory(f"Memory was too short to decode the {name} file.") from error
        raise broken(name) from error


def _load_upright(plain: PlainFile, shorter: int) -> Image.Image:
    image = _merge_planes(plain) if plain.planes else _open(plain, plain.data)
    image.draft(image.mode, (DRAFT_FACTOR * shorter, DRAFT_FACTOR * shorter))
    image.load()
    turn = TURNS.get(plain.orientation)
    return image if turn is None else image.transpose(turn)


def _can_allocate(size: int) -> bool:
    """Whether the process can have that much more memory. Some decoders call its lack a fault of the data."""
    try:
        np.empty(size, np.uint8)
    except MemoryError:
        return False
    return True


def _open(plain: PlainFile, data: bytes) -> Image.Image:
    try:
        return OPENERS[plain.name](io.BytesIO(data))
    except MemoryError:
        raise
    except Exception as error:
        if plain.variant:
            name = FORMATS[plain.name].name
            raise ImageFault(f"The {name} file is {plain.variant}, a variant that is not read.") from error
        raise


def _merge_planes(plain: PlainFile) -> Image.Image:
    planes = []
    for data in plain.planes:
        with _open(plain, data) as image:
            image.load()
            planes.append(flatten(image))
    return Image.merge(plain.plane_mode, planes)
