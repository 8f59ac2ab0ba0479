"""From the bytes of one image file to the network's pixels, whatever the bytes are.

Owns the translation of the faults of files into the service's errors.
"""

from app.errors import ImageTooLarge, Overloaded, ServiceError, UndecodableImage, UnsupportedFormat
from models.formats.plain import ImageFault, NotEnoughMemory, PlainFile, TooManyPixels, UnknownFormat
from models.image_files import decode_pixels, draw_picture, estimate_decode_bytes, estimate_draw_bytes
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

    Raises UnsupportedFormat, ImageTooLarge (by the header), UndecodableImage and Overloaded.
    """
    try:
        return simplify(data, max_image_pixels)
    except MemoryError as error:
        raise Overloaded("Memory was too short to read the file.") from error
    except ImageFault as fault:
        raise ERRORS[type(fault)](str(fault)) from fault


def estimate_bytes(plain: PlainFile, preprocessing: Preprocessing, *, is_drawn: bool = False) -> int:
    """The memory that `decode_plain`, or `draw_plain`, takes at most, in bytes, beside the plain file's own."""
    return estimate_draw_bytes(plain) if is_drawn else estimate_decode_bytes(plain, preprocessing)


def decode_plain(plain: PlainFile, preprocessing: Preprocessing) -> Pixels:
    """The (S, S, C) uint8 pixels of an inspected file. Raises UndecodableImage and Overloaded."""
    try:
        return decode_pixels(plain, preprocessing)
    except ImageFault as fault:
        raise ERRORS[type(fault)](str(fault)) from fault


def draw_plain(plain: PlainFile, preprocessing: Preprocessing, heat: Pixels) -> bytes:
    """A PNG of an inspected file's picture with a heat map over it. Raises UndecodableImage and Overloaded."""
    try:
        return draw_picture(plain, preprocessing, heat)
    except ImageFault as fault:
        raise ERRORS[type(fault)](str(fault)) from fault


def decode(data: bytes, preprocessing: Preprocessing, max_image_pixels: int) -> Pixels:
    """The (S, S, C) uint8 pixels of an image file's bytes; of an animation, of its first frame.

    Raises UnsupportedFormat, ImageTooLarge (by the header, before anything is decoded), UndecodableImage, and
    Overloaded where memory is too short.
    """
    return decode_plain(inspect(data, max_image_pixels), preprocessing)
