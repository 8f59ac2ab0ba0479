"""TIFF's directory, strips and samples."""

import itertools
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.formats.plain import MAX_PROFILE_BYTES, ImageFault, TooManyPixels
from models.formats.tiff import simplify_tiff
from models.formats.tiff_layout import MAX_BLOCKS
from models.image_files import read_pixels
from models.preprocess import Preprocessing
from tests.fakes.images import encoded, random_image
from tests.fakes.tiffs import DOUBLE, FLOAT, LONG, SHORT, Order, tiff_of, write_tiff

LIMIT = 10_000_000
GREYS = np.random.default_rng(0).integers(0, 256, (16, 16))
RANGES = {"u2": (0, 2**16), "i2": (-(2**15), 2**15), "u4": (0, 2**32), "i4": (-(2**31), 2**31), "i1": (-128, 128)}


def grey(data: bytes) -> NDArray[np.uint8]:
    return read_pixels(data, Preprocessing(16, 16, (0.5,), (0.5,), 1))[:, :, 0]


def colours(data: bytes) -> NDArray[np.uint8]:
    return read_pixels(data, Preprocessing(16, 16, (0.5,) * 3, (0.5,) * 3))


def pack_12_bits(values: NDArray[Any]) -> bytes:
    """(H, W) values as rows of 12 bits each."""
    bits = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)[:, 4:]
    return np.packbits(bits.reshape(len(values), -1), axis=1).tobytes()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("kind", [*RANGES, "f4", "u1"])
def test_grey_of_any_depth_is_scaled(kind: str, photometric: int, deflate: bool, order: Order) -> None:
    """Black and white are the ends of the sample's range, or 1 of floats, in either byte order; 0 may be white."""
    low, high = RANGES.get(kind, (0, 256))
    samples = (GREYS / 255 if kind == "f4" else low + GREYS * ((high - low) // 256)).astype(kind)
    seen = grey(tiff_of(samples, order, deflate=deflate, tag_262=(SHORT, [photometric])))
    assert np.array_equal(seen, GREYS if photometric else 255 - GREYS)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflate", [False, True])
def test_twelve_bits_are_scaled(deflate: bool, order: Order) -> None:
    """Packed samples of 12 bits are read in either byte order."""
    data = pack_12_bits(GREYS * 16 + 7)
    data = zlib.compress(data) if deflate else data
    fields = {256: (LONG, [16]), 257: (LONG, [16]), 258: (SHORT, [12]), 259: (SHORT, [8 if deflate else 1])}
    fields |= {262: (SHORT, [1]), 273: (LONG, [8]), 277: (SHORT, [1]), 278: (LONG, [16]), 279: (LONG, [len(data)])}
    assert np.array_equal(grey(write_tiff(fields, data, order)), GREYS)


@pytest.mark.parametrize(
    ("samples", "lowest", "highest"),
    [
        (GREYS.astype("u2") * 16, (SHORT, [0]), (SHORT, [4095])),
        (GREYS.astype("u2") * 16 + 1000, (SHORT, [1000]), (SHORT, [5095])),
        ((GREYS * 4 - 512).astype("f4"), (FLOAT, [-512.0]), (FLOAT, [508.0])),
        ((GREYS * 4).astype("u4"), (LONG, [0]), (DOUBLE, [1023.0])),
    ],
)
def test_a_stated_range_is_taken(samples: NDArray[Any], lowest: Any, highest: Any) -> None:
    """SMinSampleValue and SMaxSampleValue are black and white."""
    assert np.array_equal(grey(tiff_of(samples, tag_340=lowest, tag_341=highest)), GREYS)


@pytest.mark.parametrize("highest", [float("nan"), float("inf"), -1.0, 0.0])
def test_an_impossible_range_is_ignored(highest: float) -> None:
    """A white that is not above black, or no number, is as if it were not stated."""
    assert np.array_equal(grey(tiff_of(GREYS.astype("u2") * 256, tag_341=(DOUBLE, [highest]))), GREYS)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK"])
def test_planes_are_read_like_pixels(mode: str, bits: int, deflate: bool, order: Order) -> None:
    """Samples in planes of 8 or 16 bits give what the same samples side by side give."""
    values = np.random.default_rng(0).integers(0, 256, (16, 16, len(mode))).astype(f"u{bits // 8}")
    values <<= bits - 8
    kind = {262: (SHORT, [5 if mode == "CMYK" else 2])} | ({338: (SHORT, [2])} if mode == "RGBA" else {})
    together = tiff_of(values, order, deflate=deflate, **{f"tag_{tag}": field for tag, field in kind.items()})
    planes = [np.ascontiguousarray(values[:, :, i]).astype(f"{order}u{bits // 8}").tobytes() for i in range(len(mode))]
    planes = [zlib.compress(plane) for plane in planes] if deflate else planes
    offsets = [8 + sum(map(len, planes[:i])) for i in range(len(planes))]
    fields = {256: (LONG, [16]), 257: (LONG, [16]), 258: (SHORT, [bits] * len(mode)), 278: (LONG, [16])}
    fields |= {259: (SHORT, [8 if deflate else 1]), 277: (SHORT, [len(mode)]), 284: (SHORT, [2]), **kind}
    fields |= {273: (LONG, offsets), 279: (LONG, [len(plane) for plane in planes])}
    assert np.array_equal(colours(write_tiff(fields, b"".join(planes), order)), colours(together))


@pytest.mark.parametrize(
    ("mode", "compression"),
    [
        *itertools.product(["L", "P", "RGB", "CMYK"], ["tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", None]),
        *itertools.product(["L", "RGB", "CMYK", "YCbCr"], ["jpeg"]),
    ],
)
def test_what_pillow_reads_is_read_alike(mode: str, compression: str | None) -> None:
    """The plain file decodes to the very pixels of the file itself."""
    image = random_image(size=(16, 16)).convert(mode)
    seen = colours(encoded(image, "TIFF", compression=compression))
    difference = np.abs(seen.astype(int) - np.asarray(image.convert("RGB")))
    assert difference.mean() <= (40 if compression == "jpeg" else 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tag_259": (SHORT, [6])}, "compression old JPEG"),
        ({"tag_259": (SHORT, [34925])}, "compression LZMA"),
        ({"tag_259": (SHORT, [77])}, "compression 77"),
        ({"tag_258": (SHORT, [64]), "tag_339": (SHORT, [3])}, "grey with 1 sample of 64 bits, floating point"),
        ({"tag_258": (SHORT, [24])}, "grey with 1 sample of 24 bits, unsigned"),
        ({"tag_262": (SHORT, [9])}, "photometric 9 with 1 sample of 8 bits"),
        ({"tag_277": (SHORT, [99])}, "99 samples a pixel"),
        ({"tag_258": (SHORT, [5, 6, 5]), "tag_277": (SHORT, [3]), "tag_262": (SHORT, [2])}, "samples of 5/6 bits"),
        ({"tag_258": (SHORT, [8] * 3), "tag_277": (SHORT, [3]), "tag_262": (SHORT, [6])}, "YCbCr, subsampled"),
    ],
)
def test_variants_are_named(changes: dict[str, Any], message: str) -> None:
    """What cannot be read rightly is refused in words that name it."""
    data = tiff_of(np.zeros((16, 16, 9), np.uint8)[:, :, 0], **changes) + bytes(4096)
    with pytest.raises(ImageFault, match=message) as caught:
        grey(data)
    assert "corrupt" not in str(caught.value)


def test_strips_beyond_the_rows_are_ignored() -> None:
    """A list of a million strips costs no more than the rows' own."""
    plain = simplify_tiff(tiff_of(GREYS.astype("u1"), tag_273=(LONG, [8]), tag_278=(LONG, [16])), LIMIT)
    many = tiff_of(GREYS.astype("u1"), tag_273=(LONG, [8] * 100_000), tag_279=(LONG, [256] * 100_000))
    assert simplify_tiff(many, LIMIT) == plain


def test_strips_are_bounded() -> None:
    """More strips than any writer makes, and strips that share more bytes than the file has, are refused."""
    rows = MAX_BLOCKS + 1
    tall = {256: (LONG, [1]), 257: (LONG, [rows]), 258: (SHORT, [8]), 262: (SHORT, [1]), 277: (SHORT, [1])}
    tall |= {273: (LONG, [8] * rows), 278: (LONG, [1])}
    with pytest.raises(ImageFault, match=f"{rows} strips or tiles, more than {MAX_BLOCKS}"):
        simplify_tiff(write_tiff({**tall, 259: (SHORT, [1])}, bytes(8)), LIMIT)
    shared = {**tall, 257: (LONG, [5000]), 259: (SHORT, [8]), 279: (LONG, [100_000] * 5000)}
    with pytest.raises(ImageFault, match="overlap"):
        simplify_tiff(write_tiff(shared, bytes(100_000)), LIMIT)


def test_streams_within_strips_are_bounded() -> None:
    """A JPEG stream of a strip follows the limits of pixels and scans too."""
    stream = encoded(random_image(size=(2000, 2000)), "JPEG", quality=10)
    fields: dict[str, Any] = {"tag_259": (SHORT, [7]), "tag_279": (LONG, [len(stream)])}
    blank = tiff_of(np.zeros((16, 16), np.uint8), **fields)
    data = stream.join([blank[:8], blank[8:]])
    moved = data[:4] + struct.pack("<I", struct.unpack_from("<I", blank, 4)[0] + len(stream)) + data[8:]
    with pytest.raises(TooManyPixels, match="2000 x 2000"):
        simplify_tiff(moved, 1_000_000)


def test_absurd_fields_cost_nothing() -> None:
    """Fields with billions of values, and tens of thousands of unknown ones, are passed over; a later page too."""
    fields: dict[str, Any] = dict.fromkeys([f"tag_{tag}" for tag in range(40_000, 60_000)], (7, b"x" * 5))
    data = tiff_of(GREYS.astype("u1"), **fields)
    assert np.array_equal(grey(data), GREYS)
    assert len(simplify_tiff(data, LIMIT).data) < 1000
    pages = encoded(Image.fromarray(GREYS.astype(np.uint8)), "TIFF", save_all=True, append_images=[random_image()] * 9)
    assert len(simplify_tiff(pages, LIMIT).data) < 1000


def test_a_profile_and_an_orientation_are_known() -> None:
    """They are fields of the first directory; a profile that is too large is ignored."""
    found = simplify_tiff(tiff_of(GREYS.astype("u1"), tag_34675=(7, b"profile"), tag_274=(SHORT, [6])), LIMIT)
    assert (found.profile, found.orientation) == (b"profile", 6)
    large = tiff_of(GREYS.astype("u1"), tag_34675=(7, bytes(MAX_PROFILE_BYTES + 1)))
    assert simplify_tiff(large, LIMIT).profile is None


@pytest.mark.parametrize(
    "data",
    [
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\0\0",
        tiff_of(GREYS.astype("u1"), tag_256=(LONG, [0])),
        tiff_of(GREYS.astype("u1"), tag_273=(LONG, [8, 2**31]), tag_278=(LONG, [8])),
        tiff_of(GREYS.astype("u1"), tag_273=(LONG, [8]), tag_278=(LONG, [8])),
        tiff_of(GREYS.astype("u1"), tag_278=(LONG, [0])),
    ],
)
def test_a_broken_directory_is_corrupt(data: bytes) -> None:
    """Without a size, or with strips that are missing or beyond the file, a file says that it is corrupt."""
    with pytest.raises(ImageFault, match="truncated or corrupt"):
        simplify_tiff(data, LIMIT)
