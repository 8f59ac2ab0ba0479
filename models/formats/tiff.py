"""TIFF 6.0 and BigTIFF: the first page.

Owns what the plain file's own directory says, and how samples in planes are to be read. Neither other fields nor later
pages cost anything.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from models.formats.directory import ORIENTATION, Directory, read_directory, write_file
from models.formats.jpeg import check_jpeg_blocks
from models.formats.plain import MAX_PROFILE_BYTES, ImageFault, PlainFile, broken
from models.formats.tiff_grey import is_deep_grey, restate_grey
from models.formats.tiff_layout import (
    BITS,
    BLACK_IS_ZERO,
    CMYK,
    COLOUR_MAP,
    COMPRESSION,
    EXTRA_SAMPLES,
    FAX3_OPTIONS,
    FAX4_OPTIONS,
    FILL_ORDER,
    HEIGHT,
    JPEG,
    JPEG_TABLES,
    PHOTOMETRIC,
    PLANAR,
    PREDICTOR,
    PROFILE,
    RGB,
    SAMPLE_FORMAT,
    SAMPLES,
    STRIP_BYTES,
    STRIP_OFFSETS,
    STRIP_ROWS,
    SUBSAMPLING,
    TILE_BYTES,
    TILE_HEIGHT,
    TILE_OFFSETS,
    TILE_WIDTH,
    UNCOMPRESSED,
    UNSIGNED,
    WANTED,
    WIDTH,
    YCBCR,
    ZSTD,
    Blocks,
    Layout,
    find_blocks,
    read_layout,
)

BYTE, SHORT, LONG, UNDEFINED = 1, 3, 4, 7
PREMULTIPLIED, ALPHA = 1, 2  # kinds of extra samples
ZSTD_WINDOW_BYTES = 2**27
COPIED = {  # fields that are taken over with so many values at most
    FILL_ORDER: (SHORT, 1),
    PREDICTOR: (SHORT, 1),
    FAX3_OPTIONS: (LONG, 1),
    FAX4_OPTIONS: (LONG, 1),
    SUBSAMPLING: (SHORT, 2),
    COLOUR_MAP: (SHORT, 768),
    JPEG_TABLES: (UNDEFINED, 65_536),
}


def simplify_tiff(data: bytes, max_pixels: int) -> PlainFile:
    """The first page of a TIFF file. Raises ImageFault and TooManyPixels."""
    directory = read_directory(data, WANTED)
    if directory is None:
        raise broken("TIFF")
    layout = read_layout(directory, max_pixels)
    blocks = find_blocks(directory, layout, max_pixels)
    if layout.compression == JPEG:
        check_jpeg_blocks(data, blocks.offsets, blocks.byte_counts, blocks.width * blocks.height, max_pixels)
    orientation = directory.integer(ORIENTATION, 1)
    plain = PlainFile(
        "TIFF",
        b"",
        layout.width,
        layout.height,
        pixel_bytes=4,
        buffer_bytes=_buffer_bytes(layout, blocks),
        orientation=orientation if 1 <= orientation <= 8 else 1,
        profile=directory.octets(PROFILE, MAX_PROFILE_BYTES),
        variant=layout.describe(),
    )
    if is_deep_grey(layout):
        return _simplify_deep_grey(plain, directory, layout, blocks)
    if layout.is_planar:
        return _simplify_planes(plain, directory, layout, blocks)
    if layout.photometric == YCBCR and layout.compression == UNCOMPRESSED and layout.bits == (8, 8, 8):
        subsampling = directory.integers(SUBSAMPLING, 2) or (2, 2)
        if subsampling != (1, 1):
            raise ImageFault("The TIFF file is YCbCr, subsampled and not compressed, a variant that is not read.")
    pixel_bytes = 1 if len(layout.bits) == 1 else 4
    return replace(plain, data=_write(directory, layout, blocks), pixel_bytes=pixel_bytes)


def _buffer_bytes(layout: Layout, blocks: Blocks) -> int:
    """What libtiff and Pillow keep of a block: its samples, and its pixels where libtiff converts colours."""
    if layout.compression == UNCOMPRESSED:
        return 0
    area = blocks.width * blocks.height
    colours = 8 * area if layout.photometric == YCBCR or layout.compression == JPEG else 0
    return math.ceil(area * sum(layout.bits) / 8) + colours + (ZSTD_WINDOW_BYTES if layout.compression == ZSTD else 0)


def _simplify_deep_grey(plain: PlainFile, directory: Directory, layout: Layout, blocks: Blocks) -> PlainFile:
    """Grey of more than 8 bits, or signed, as samples that Pillow reads, and their range."""
    restated = restate_grey(directory, layout)
    bits = layout.bits[0]
    return replace(
        plain,
        data=_write(directory, restated.layout, blocks, order=restated.order),
        pixel_bytes=2 if bits in (12, 16) else bits // 8,
        grey=restated.scale,
    )


def _simplify_planes(plain: PlainFile, directory: Directory, layout: Layout, blocks: Blocks) -> PlainFile:
    """A grey file for each plane: Pillow reads planes of 8 bits only, and takes deeper ones for 8 bits."""
    modes = {RGB: "RGB", CMYK: "CMYK"}
    colours = len(modes.get(layout.photometric, ""))
    is_sound = layout.bits[0] in (8, 16) and len(set(layout.bits)) == 1 and layout.sample_format == UNSIGNED
    if not colours or not is_sound or len(layout.bits) < colours:
        raise ImageFault(f"The TIFF file is {plain.variant}, a variant that is not read.")
    mode = modes[layout.photometric]
    if mode == "RGB" and len(layout.bits) > 3:
        alpha = layout.extra[0] if layout.extra else ALPHA
        mode = {PREMULTIPLIED: "RGBa", ALPHA: "RGBA"}.get(alpha, mode)
    count = len(blocks.offsets) // len(layout.bits)
    grey = replace(layout, bits=layout.bits[:1], extra=(), photometric=BLACK_IS_ZERO, is_planar=False)
    planes = tuple(
        _write(
            directory,
            grey,
            replace(blocks, offsets=blocks.offsets[at : at + count], byte_counts=blocks.byte_counts[at : at + count]),
        )
        for at in range(0, count * len(mode), count)
    )
    return replace(plain, planes=planes, plane_mode=mode, pixel_bytes=layout.bits[0] // 8 + len(mode))


def _write(directory: Directory, layout: Layout, blocks: Blocks, order: str = "") -> bytes:
    fields: dict[int, tuple[int, Sequence[float]]] = {
        tag: (kind, values) for tag, (kind, limit) in COPIED.items() if (values := directory.integers(tag, limit))
    }
    fields |= {
        WIDTH: (LONG, (layout.width,)),
        HEIGHT: (LONG, (layout.height,)),
        BITS: (SHORT, layout.bits),
        COMPRESSION: (SHORT, (layout.compression,)),
        PHOTOMETRIC: (SHORT, (layout.photometric,)),
        SAMPLES: (SHORT, (len(layout.bits),)),
        PLANAR: (SHORT, (1,)),
        SAMPLE_FORMAT: (SHORT, (layout.sample_format,) * len(layout.bits)),
    }
    if layout.extra:
        fields[EXTRA_SAMPLES] = (SHORT, layout.extra)
    view, at, offsets = memoryview(directory.data), 8, []
    for size in blocks.byte_counts:
        offsets.append(at)
        at += size
    if blocks.are_tiles:
        fields |= {TILE_WIDTH: (LONG, (blocks.width,)), TILE_HEIGHT: (LONG, (blocks.height,))}
        fields |= {TILE_OFFSETS: (LONG, offsets), TILE_BYTES: (LONG, blocks.byte_counts)}
    else:
        fields |= {STRIP_ROWS: (LONG, (blocks.height,))}
        fields |= {STRIP_OFFSETS: (LONG, offsets), STRIP_BYTES: (LONG, blocks.byte_counts)}
    parts = [view[at : at + size] for at, size in zip(blocks.offsets, blocks.byte_counts, strict=True)]
    return write_file(order or directory.order, parts, fields)
