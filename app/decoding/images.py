"""From the bytes of one image file to the network's pixels, whatever the bytes are.

Owns the translation of the faults that `models.formats` finds into the service's errors, and what a process must do
before it decodes for strangers.
"""

import logging
import warnings
from collections.abc import Callable
from typing import Any

from app.errors import ImageTooLarge, Overloaded, ServiceError, UndecodableImage, UnsupportedFormat
from models.formats.plain import ImageFault, NotEnoughMemory, PlainFile, TooManyPixels, UnknownFormat
from models.image_files import decode_pixels, estimate_decode_bytes
from models.image_formats import simplify
from models.preprocess import Pixels, Preprocessing

ERRORS: dict[type[ImageFault], type[ServiceError]] = {
    UnknownFormat: UnsupportedFormat,
    TooManyPixels: ImageTooLarge,
    NotEnoughMemory: Overloaded,
    ImageFault: UndecodableImage,
}


def inspect(data: bytes, max_image_pixels: int) -> PlainFile:
    """The one picture of an image file, for which nothing is decoded yet, in time linear in the file's length.

    Raises UnsupportedFormat, ImageTooLarge (by the header) and UndecodableImage.
    """
    try:
        return simplify(data, max_image_pixels)
    except ImageFault as fault:
        raise ERRORS[type(fault)](str(fault)) from fault


def estimate_bytes(plain: PlainFile, preprocessing: Preprocessing) -> int:
    """The memory that `decode_plain` takes at most, in bytes, beside the plain file's own."""
    return estimate_decode_bytes(plain, preprocessing)


def decode_plain(plain: PlainFile, preprocessing: Preprocessing) -> Pixels:
    """The (S, S, C) uint8 pixels of an inspected file. Raises UndecodableImage and Overloaded."""
    try:
        return decode_pixels(plain, preprocessing)
    except ImageFault as fault:
        raise ERRORS[type(fault)](str(fault)) from fault


def decode(data: bytes, preprocessing: Preprocessing, max_image_pixels: int) -> Pixels:
    """The (S, S, C) uint8 pixels of an image file's bytes; of an animation, of its first frame.

    Raises UnsupportedFormat, ImageTooLarge (by the header, before anything is decoded), UndecodableImage, and
    Overloaded where memory is too short.
    """
    return decode_plain(inspect(data, max_image_pixels), preprocessing)


def count_warnings(on_warning: Callable[[], None]) -> None:
    """Makes Python's warnings and Pillow's log lines a count, for the whole process: a file can cause thousands."""

    def count(*_: Any, **__: Any) -> None:
        on_warning()

    warnings.simplefilter("always")
    warnings.showwarning = count
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
