"""TIFF's grey samples of more than 8 bits, or with a sign: their range, and how to state them for Pillow."""

import math
from dataclasses import dataclass, replace

from models.formats.directory import Directory
from models.formats.plain import GreyScale, ImageFault
from models.formats.tiff_layout import (
    BLACK_IS_ZERO,
    FLOAT,
    HIGHEST,
    LOWEST,
    SIGNED,
    UNCOMPRESSED,
    UNSIGNED,
    WHITE_IS_ZERO,
    Layout,
)

# By bits and sample format of a grey sample: the format to state so that Pillow reads it, numpy's type of what it is.
DEEP_GREY: dict[tuple[int, int], tuple[int, str | None]] = {
    (8, SIGNED): (UNSIGNED, "i1"),
    (12, UNSIGNED): (UNSIGNED, None),
    (16, UNSIGNED): (UNSIGNED, None),
    (16, SIGNED): (UNSIGNED, "i2"),
    (32, UNSIGNED): (SIGNED, "u4"),
    (32, SIGNED): (SIGNED, "i4"),
    (32, FLOAT): (FLOAT, "f4"),
}


@dataclass(frozen=True, slots=True)
class RestatedGrey:
    """The layout and struct's sign of the byte order to state, and what the samples mean in truth."""

    layout: Layout
    order: str
    scale: GreyScale


def is_deep_grey(layout: Layout) -> bool:
    """Whether the samples are grey and not whole numbers of 1 to 8 bits."""
    return layout.is_grey and (layout.bits[0] > 8 or layout.sample_format != UNSIGNED)


def restate_grey(directory: Directory, layout: Layout) -> RestatedGrey:
    """Deep grey as Pillow reads it. Raises ImageFault for samples that it does not read in any way."""
    bits, sample_format = layout.bits[0], layout.sample_format
    if (bits, sample_format) not in DEEP_GREY:
        raise ImageFault(f"The TIFF file is {layout.describe()}, a variant that is not read.")
    stated, dtype = DEEP_GREY[bits, sample_format]
    # Samples of 12 bits are packed alike in both byte orders, but Pillow knows them in the one alone. It keeps 16 bits
    # in the file's order. What libtiff unpacks is in the machine's, but Pillow swaps 32 bits of it all the same.
    order = "<" if bits == 12 else directory.order
    if dtype and order == ">" and (bits == 16 or (bits == 32 and layout.compression != UNCOMPRESSED)):
        dtype = ">" + dtype
    low, high = _find_range(directory, bits, sample_format)
    scale = GreyScale(low, high, is_inverted=layout.photometric == WHITE_IS_ZERO, dtype=dtype)
    return RestatedGrey(replace(layout, photometric=BLACK_IS_ZERO, sample_format=stated), order, scale)


def _find_range(directory: Directory, bits: int, sample_format: int) -> tuple[float | None, float | None]:
    """Black and white by SMinSampleValue and SMaxSampleValue, else by the sample's bits; None where floats decide."""
    low: float | None = None
    high: float | None = None
    if sample_format != FLOAT:
        low = -(2.0 ** (bits - 1)) if sample_format == SIGNED else 0.0
        high = low + 2.0**bits - 1
    lowest, highest = (next(iter(directory.values(tag, 1)), None) for tag in (LOWEST, HIGHEST))
    stated_low = lowest if lowest is not None else low if low is not None else 0.0
    stated_high = highest if highest is not None else high
    if stated_high is None or not 0 < stated_high - stated_low < math.inf:
        return low, high
    return stated_low, stated_high
