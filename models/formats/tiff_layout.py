"""What a TIFF directory says of samples, and of the strips or tiles that hold them.

Owns the tags, and the bounds of strips and tiles.
"""

import math
from dataclasses import dataclass

from models.formats.directory import ORIENTATION, Directory
from models.formats.plain import ImageFault, broken, check_pixels

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIP_OFFSETS, SAMPLES, STRIP_ROWS, STRIP_BYTES, PLANAR = 273, 277, 278, 279, 284
FAX3_OPTIONS, FAX4_OPTIONS, PREDICTOR, COLOUR_MAP = 292, 293, 317, 320
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES = 322, 323, 324, 325
EXTRA_SAMPLES, SAMPLE_FORMAT, LOWEST, HIGHEST, JPEG_TABLES, SUBSAMPLING = 338, 339, 340, 341, 347, 530
PROFILE = 34675
# fmt: off
WANTED = frozenset({
    WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, ORIENTATION, STRIP_OFFSETS, SAMPLES, STRIP_ROWS,
    STRIP_BYTES, PLANAR, FAX3_OPTIONS, FAX4_OPTIONS, PREDICTOR, COLOUR_MAP, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS,
    TILE_BYTES, EXTRA_SAMPLES, SAMPLE_FORMAT, LOWEST, HIGHEST, JPEG_TABLES, SUBSAMPLING, PROFILE,
})
# fmt: on

UNCOMPRESSED, JPEG, ZSTD = 1, 7, 50_000
COMPRESSIONS = frozenset({UNCOMPRESSED, 2, 3, 4, 5, JPEG, 8, 32_773, 32_946, ZSTD})
# Two of these could be decoded. Old JPEG has no sound definition, and LZMA allocates what the file asks for.
OTHER_COMPRESSIONS = {
    6: "old JPEG",
    32_809: "ThunderScan",
    34_676: "SGI Log",
    34_677: "SGI Log 24",
    34_712: "JPEG 2000",
    34_925: "LZMA",
    50_001: "WebP",
}
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK, YCBCR = 0, 1, 2, 5, 6
COLOURS = {
    WHITE_IS_ZERO: "grey",
    BLACK_IS_ZERO: "grey",
    RGB: "RGB",
    3: "palette",
    4: "mask",
    CMYK: "CMYK",
    YCBCR: "YCbCr",
    8: "Lab",
}
UNSIGNED, SIGNED, FLOAT, UNDEFINED = 1, 2, 3, 4
SAMPLE_FORMATS = {UNSIGNED: "unsigned", SIGNED: "signed", FLOAT: "floating point"}

MAX_SAMPLES = 6
MAX_SIDE = 2**24
MAX_BLOCKS = 65_536  # Pillow takes 10 microseconds for each
# Blocks that share their bytes, as blank tiles do, are read once for each.
MAX_SHARED_BYTES = 2**26


@dataclass(frozen=True, slots=True)
class Layout:
    """A page's samples. `bits` has an entry for each sample of a pixel."""

    width: int
    height: int
    bits: tuple[int, ...]
    sample_format: int
    extra: tuple[int, ...]
    photometric: int
    compression: int
    is_planar: bool

    @property
    def is_grey(self) -> bool:
        """Whether a pixel is one sample that is no index of a palette."""
        return len(self.bits) == 1 and self.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO)

    def describe(self) -> str:
        """The variant, for people."""
        samples = "1 sample" if len(self.bits) == 1 else f"{len(self.bits)} samples"
        name = SAMPLE_FORMATS.get(self.sample_format, f"of the sample format {self.sample_format}")
        colours = COLOURS.get(self.photometric, f"photometric {self.photometric}")
        planes = ", in planes" if self.is_planar else ""
        return f"{colours} with {samples} of {'/'.join(map(str, dict.fromkeys(self.bits)))} bits, {name}{planes}"


@dataclass(frozen=True, slots=True)
class Blocks:
    """The strips or tiles in order, all of a plane before those of the next; a block is `width` x `height` pixels."""

    are_tiles: bool
    width: int
    height: int
    offsets: tuple[int, ...]
    byte_counts: tuple[int, ...]


def read_layout(directory: Directory, max_pixels: int) -> Layout:
    """The page's samples. Raises ImageFault, also for a compression that is not read, and TooManyPixels."""
    width, height = directory.integer(WIDTH, 0), directory.integer(HEIGHT, 0)
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise broken("TIFF")
    check_pixels(width, height, max_pixels)
    compression = directory.integer(COMPRESSION, UNCOMPRESSED)
    if compression not in COMPRESSIONS:
        name = OTHER_COMPRESSIONS.get(compression, compression)
        raise ImageFault(f"The TIFF file has the compression {name}, a variant that is not read.")
    samples = directory.integer(SAMPLES, 1)
    if not 1 <= samples <= MAX_SAMPLES:
        raise ImageFault(f"The TIFF file has {samples} samples a pixel, but only 1 to {MAX_SAMPLES} are read.")
    bits = directory.integers(BITS, samples) or (1,)
    formats = set(directory.integers(SAMPLE_FORMAT, samples)) or {UNSIGNED}
    if len(formats) > 1 or len(bits) not in (1, samples):
        raise ImageFault("The TIFF file has samples of several kinds, a variant that is not read.")
    sample_format = UNSIGNED if formats == {UNDEFINED} else formats.pop()
    return Layout(
        width,
        height,
        bits * samples if len(bits) == 1 else bits,
        sample_format,
        directory.integers(EXTRA_SAMPLES, samples),
        directory.integer(PHOTOMETRIC, WHITE_IS_ZERO),
        compression,
        is_planar=directory.integer(PLANAR, 1) == 2 and samples > 1,
    )


def find_blocks(directory: Directory, layout: Layout, max_pixels: int) -> Blocks:
    """As many strips or tiles as the picture has; whatever else the fields list is ignored.

    Raises ImageFault and TooManyPixels.
    """
    are_tiles = STRIP_OFFSETS not in directory.fields
    if are_tiles:
        width, height = directory.integer(TILE_WIDTH, 0), directory.integer(TILE_HEIGHT, 0)
    else:
        rows = directory.integer(STRIP_ROWS, layout.height)
        width, height = layout.width, min(rows, layout.height)
    if width <= 0 or height <= 0:
        raise broken("TIFF")
    check_pixels(width, height, max_pixels)
    count = math.ceil(layout.width / width) * math.ceil(layout.height / height)
    count *= len(layout.bits) if layout.is_planar else 1
    if count > MAX_BLOCKS:
        raise ImageFault(f"The TIFF file has {count} strips or tiles, more than {MAX_BLOCKS}.")
    offsets = directory.integers(TILE_OFFSETS if are_tiles else STRIP_OFFSETS, count)
    if len(offsets) < count:
        raise broken("TIFF")
    if layout.compression == UNCOMPRESSED:
        byte_counts = _compute_byte_counts(layout, width, height, are_tiles=are_tiles)
    else:
        byte_counts = directory.integers(TILE_BYTES if are_tiles else STRIP_BYTES, count)
    if len(byte_counts) < count:
        byte_counts = _guess_byte_counts(offsets, len(directory.data))
    if any(at + size > len(directory.data) for at, size in zip(offsets, byte_counts, strict=True)):
        raise broken("TIFF")
    if sum(byte_counts) > max(MAX_SHARED_BYTES, 2 * len(directory.data)):
        raise ImageFault("The TIFF file has strips or tiles that overlap.")
    return Blocks(are_tiles, width, height, offsets, byte_counts)


def _compute_byte_counts(layout: Layout, width: int, height: int, *, are_tiles: bool) -> tuple[int, ...]:
    """Of blocks that are not compressed. Some writers state other numbers."""
    planes = len(layout.bits) if layout.is_planar else 1
    row = math.ceil(width * sum(layout.bits) / planes / 8)
    across, down = math.ceil(layout.width / width), math.ceil(layout.height / height)
    rows = [height] * across * down
    if not are_tiles:
        rows[-1] = layout.height - (down - 1) * height
    return tuple(row * of_block for of_block in rows) * planes


def _guess_byte_counts(offsets: tuple[int, ...], end: int) -> tuple[int, ...]:
    """Each block ends where the next one in the file begins."""
    ordered = sorted(set(offsets))
    following = dict(zip(ordered, [*ordered[1:], max(end, ordered[-1])], strict=True))
    return tuple(following[offset] - offset for offset in offsets)
