"""What the formats' modules share: their outcome, and the faults that they find.

Owns no format. A format's module walks a file's structure in time linear in the file's length, before anything is
decoded, and writes a plain file that holds one picture and what is needed to decode it. Pillow reads the plain file
alone, so whatever else a file carries costs nothing.
"""

from dataclasses import dataclass

# Profiles of printing processes have up to 3 MB. A larger one is ignored.
MAX_PROFILE_BYTES = 4 * 2**20
# Segments, chunks or blocks of a file. A step through one takes about a microsecond, and it can be two bytes long.
MAX_PARTS = 250_000


class ImageFault(ValueError):
    """A file that is refused. The message is one sentence for a person, which names the format and the fault."""


class UnknownFormat(ImageFault):
    """Bytes that begin like none of the formats."""


class TooManyPixels(ImageFault):
    """More pixels than are allowed, as the header declares them."""


class NotEnoughMemory(ImageFault):
    """A picture for which memory ran out while it was decoded."""


@dataclass(frozen=True, slots=True)
class GreyScale:
    """Which samples of a deep grey picture are black and white.

    Samples of `low` become 0 and those of `high` 255, or the reverse if `is_inverted`. If both are None, the samples
    are floats, and their largest value decides. `dtype` is numpy's name of the type that the samples have in truth,
    where Pillow gives them another.
    """

    low: float | None
    high: float | None
    is_inverted: bool = False
    dtype: str | None = None


@dataclass(frozen=True, slots=True)
class PlainFile:
    """The one picture of an image file, and what the file says of it.

    `name` is Pillow's name of the format, `data` the file that Pillow shall read. `pixel_bytes` is what a decoded pixel
    takes in memory, and `buffer_bytes` what the decoder takes besides. `orientation` is EXIF's, 1 to 8. `profile` is
    the embedded ICC profile, unchecked. `variant` describes, where it is not empty, what Pillow may not know. A TIFF
    with samples in planes has a grey file for each plane in `planes`, and `plane_mode` is Pillow's mode of the whole.
    """

    name: str
    data: bytes
    width: int
    height: int
    pixel_bytes: int
    buffer_bytes: int = 0
    orientation: int = 1
    profile: bytes | None = None
    grey: GreyScale | None = None
    variant: str = ""
    planes: tuple[bytes, ...] = ()
    plane_mode: str = ""


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Raises TooManyPixels."""
    if width * height > max_pixels:
        raise TooManyPixels(f"The image has {width} x {height} pixels, more than the allowed {max_pixels}.")


def too_many_parts(name: str) -> ImageFault:
    """The fault of a file that is cut into more parts than any writer makes."""
    return ImageFault(f"The {name} file has more than {MAX_PARTS} segments, chunks or blocks.")


def broken(name: str) -> ImageFault:
    """The fault of a file that ends too early, or contradicts its own format."""
    return ImageFault(f"The {name} file cannot be decoded: it is truncated or corrupt.")
