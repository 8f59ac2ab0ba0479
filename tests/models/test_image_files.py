"""From an image file of any kind to the network's pixels."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from models.image_files import estimate_decode_bytes, read_pixels, read_whole
from models.image_formats import simplify
from models.preprocess import Preprocessing, preprocess
from tests.fakes.images import encoded
from tests.fakes.tiffs import tiff_of


def contract(size: int, resize: int | None = None, channels: int = 3, **more: Any) -> Preprocessing:
    half = (0.5,) * channels
    return Preprocessing(size=size, resize=resize or size, mean=half, std=half, channels=channels, **more)


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8), mode)


def grey(data: bytes, side: int = 2) -> NDArray[np.uint8]:
    """The (side, side) pixels of a file of that size, as one grey channel; as three they are the same."""
    pixels = read_pixels(data, contract(side, channels=1))[:, :, 0]
    assert np.array_equal(read_pixels(data, contract(side)), pixels[:, :, None].repeat(3, axis=2))
    return pixels


def test_the_middle_of_a_whole_image_is_the_crop() -> None:
    """Cropping what `read_whole` gives at `resize` pixels is what `read_pixels` gives, alpha, EXIF and all."""
    exif = Image.Exif()
    exif[274] = 6
    data = encoded(noise(60, 40, "RGBA"), "PNG", exif=exif)
    whole = read_whole(data, 36, contract(32, 36))
    assert np.array_equal(whole[11:43, 2:34], read_pixels(data, contract(32, 36)))


# EXIF 2.32, tag 274: which side of the scene the stored first row and first column are.
@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, lambda scene: scene),  # top, left
        (2, lambda scene: scene[:, ::-1]),  # top, right
        (3, lambda scene: scene[::-1, ::-1]),  # bottom, right
        (4, lambda scene: scene[::-1]),  # bottom, left
        (5, lambda scene: scene.transpose(1, 0, 2)),  # left, top
        (6, lambda scene: scene[:, ::-1].transpose(1, 0, 2)),  # right, top
        (7, lambda scene: scene[::-1, ::-1].transpose(1, 0, 2)),  # right, bottom
        (8, lambda scene: scene[::-1].transpose(1, 0, 2)),  # left, bottom
    ],
)
@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(orientation: int, stored: Any, file_format: str) -> None:
    """A picture comes out upright, however the camera was held."""
    scene = np.asarray(noise(16, 16))
    exif = Image.Exif()
    exif[274] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(stored(scene))), file_format, exif=exif, lossless=True)
    assert np.array_equal(read_pixels(data, contract(16)), scene)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_odd_exif_does_not_matter(file_format: str) -> None:
    """A tag of the wrong type does not keep a picture from being turned, and EXIF that is none leaves it as it is."""
    width, upside_down = struct.pack(">HHIf", 256, 11, 1, 1.5), struct.pack(">HHIHH", 274, 3, 1, 3, 0)
    odd = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 2) + width + upside_down + bytes(4)
    plain, turned, broken = (
        read_pixels(encoded(noise(16, 16), file_format, lossless=True, **exif), contract(16))
        for exif in ({}, {"exif": odd}, {"exif": b"Exif\0\0garbage!"})
    )
    assert np.array_equal(turned, plain[::-1, ::-1])
    assert np.array_equal(broken, plain)


def test_alpha_is_put_on_white() -> None:
    """What is transparent becomes white, what is half transparent half white, whatever colour lies below."""
    values = np.array([[[200, 0, 40, 255], [200, 0, 40, 0]], [[0, 0, 0, 51], [255, 255, 255, 128]]], np.uint8)
    seen = read_pixels(encoded(Image.fromarray(values), "PNG"), contract(2))
    assert seen.tolist() == [[[200, 0, 40], [255, 255, 255]], [[204, 204, 204], [255, 255, 255]]]


def test_grey_with_alpha_is_put_on_white() -> None:
    """The same for grayscale with alpha."""
    values = np.array([[[100, 255], [100, 0]], [[0, 51], [0, 255]]], np.uint8)
    assert grey(encoded(Image.fromarray(values, "LA"))).tolist() == [[100, 255], [204, 0]]


@pytest.mark.parametrize(("file_format", "transparency"), [("PNG", 1), ("PNG", bytes([255, 0, 255])), ("GIF", 1)])
def test_transparent_palette_entries_are_white(file_format: str, transparency: int | bytes) -> None:
    """A palette's transparent entry becomes white, given as an index or as an alpha for each entry."""
    image = Image.new("P", (2, 2))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([0, 1, 2, 0])
    seen = read_pixels(encoded(image, file_format, transparency=transparency), contract(2))
    assert seen.tolist() == [[[10, 20, 30], [255, 255, 255]], [[70, 80, 90], [10, 20, 30]]]


@pytest.mark.parametrize(
    ("mode", "key", "other"), [("RGB", (1, 2, 3), (1, 2, 4)), ("L", 7, 8), ("1", 0, 255), ("I;16", 700, 0x0900)]
)
def test_a_transparent_colour_is_white(mode: str, key: Any, other: Any) -> None:
    """A PNG's tRNS chunk makes one colour transparent."""
    image = Image.new(mode, (2, 2), other)
    image.putpixel((1, 0), key)
    seen = read_pixels(encoded(image, "PNG", transparency=key), contract(2))
    assert seen[0, 1].tolist() == [255, 255, 255]
    expected = other if mode == "RGB" else [other >> 8 if mode == "I;16" else other] * 3
    assert seen[0, 0].tolist() == list(expected)


def test_one_bit_images_are_black_and_white() -> None:
    """A bit becomes 0 or 255."""
    bits = np.array([[True, False], [False, True]])
    assert grey(encoded(Image.fromarray(bits))).tolist() == [[255, 0], [0, 255]]


@pytest.mark.parametrize(("mode", "dtype", "file_format"), [("I;16", "<u2", "PNG"), ("I;16B", ">u2", "TIFF")])
def test_sixteen_bits_are_scaled(mode: str, dtype: str, file_format: str) -> None:
    """16-bit grayscale keeps its upper 8 bits, in either byte order."""
    values = np.array([[0, 255], [0x8000, 0xFFFF]], dtype)
    data = encoded(Image.frombytes(mode, (2, 2), values.tobytes()), file_format)
    assert grey(data).tolist() == [[0, 0], [128, 255]]


def test_big_endian_sixteen_bits_are_turned_too() -> None:
    """A 16-bit big-endian TIFF with an orientation comes out upright as well."""
    values = np.array([[0x1000, 0x2000], [0x3000, 0x4000]], ">u2")
    exif = Image.Exif()
    exif[274] = 3
    data = encoded(Image.frombytes("I;16B", (2, 2), values.tobytes()), "TIFF", exif=exif)
    assert grey(data).tolist() == [[0x40, 0x30], [0x20, 0x10]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[0.0, 0.5], [1.0, 0.25]], [[0, 128], [255, 64]]),
        ([[0.0, 127.6], [255.0, 300.0]], [[0, 128], [255, 255]]),
        ([[0.0, 771.0], [59110.0, 65535.0]], [[0, 3], [230, 255]]),
        ([[0.0, 1e6], [2e6, 5e5]], [[0, 128], [255, 64]]),
        ([[float("nan"), -1.0], [float("inf"), 2.0]], [[0, 0], [255, 2]]),
    ],
)
def test_float_images_are_scaled(values: list[list[float]], expected: list[list[int]]) -> None:
    """Floats are read from 0 to 1, 255, 65535 or their largest; what is not a number is black."""
    assert grey(tiff_of(np.array(values, np.float32))).tolist() == expected


def test_cmyk_jpeg_has_its_colours() -> None:
    """A CMYK JPEG is read as ink: full magenta and yellow are red, no ink is white."""
    for ink, colour in (((0, 255, 255, 0), (255, 0, 0)), ((0, 0, 0, 0), (255, 255, 255)), ((0, 0, 0, 255), (0, 0, 0))):
        seen = read_pixels(encoded(Image.new("CMYK", (16, 16), ink), "JPEG", quality=100), contract(16))
        assert np.abs(seen.astype(int) - colour).max() <= 2


def test_a_large_jpeg_is_decoded_smaller_and_looks_the_same() -> None:
    """A JPEG of many times the size is not decoded in full; its pixels differ by a few levels at most."""
    data = encoded(noise(60, 40).resize((1200, 800), Image.Resampling.BICUBIC), "JPEG", quality=90)
    with Image.open(io.BytesIO(data)) as drafted, Image.open(io.BytesIO(data)) as whole:
        drafted.draft("RGB", (64, 64))
        assert drafted.size == (150, 100)
        seen = read_pixels(data, contract(32))
        assert np.array_equal(seen, preprocess(drafted, contract(32)))
        difference = np.abs(seen.astype(int) - preprocess(whole, contract(32)))
    assert difference.max() <= 6
    assert difference.mean() < 1


def test_a_jpeg_of_less_than_twice_the_size_is_decoded_in_full() -> None:
    """A JPEG is never decoded to less than twice the resized image."""
    data = encoded(noise(120, 127), "JPEG")
    with Image.open(io.BytesIO(data)) as whole:
        assert np.array_equal(read_pixels(data, contract(32)), preprocess(whole, contract(32)))


CASES = Path(__file__).parents[1] / "data" / "images"


@pytest.mark.parametrize("expected", sorted(CASES.glob("*.expected.png")), ids=lambda path: path.name)
@pytest.mark.parametrize("channels", [1, 3])
def test_cases_from_the_field_look_as_expected(expected: Path, channels: int) -> None:
    """Files of odd kinds give the pixels of the plain picture that they stand for, in colour and in grey."""
    seen, wanted = (
        read_pixels(path.read_bytes(), contract(32, channels=channels, color="srgb")).astype(int)
        for path in (expected.with_name(expected.name.removesuffix(".expected.png")), expected)
    )
    assert np.abs(seen - wanted).max() <= 1


def test_a_checkpoint_of_old_reads_colours_as_stored() -> None:
    """Without sRGB in the settings an embedded profile changes nothing."""
    data = (CASES / "icc_display_p3.png").read_bytes()
    with Image.open(io.BytesIO(data)) as stored:
        assert np.array_equal(read_pixels(data, contract(32)), np.asarray(stored))


@pytest.mark.parametrize(
    "profile", [b"", b"broken", bytes(500), ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()]
)
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_profiles_that_cannot_be_used_are_ignored(mode: str, profile: bytes) -> None:
    """A profile that is broken or of another colour space is as if it were not there."""
    image = noise(16, 16).convert(mode)
    data, plain = encoded(image, "TIFF", icc_profile=profile), encoded(image, "TIFF")
    assert np.array_equal(read_pixels(data, contract(16, color="srgb")), read_pixels(plain, contract(16)))


@pytest.mark.parametrize("change", [0, 20])
def test_an_srgb_profile_changes_nothing(change: int) -> None:
    """The conversion is left out where it would only round: other writers' sRGB has other last digits."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (red,) = struct.unpack_from(">I", profile, profile.index(b"rXYZ") + 4)  # where the primary lies
    (x,) = struct.unpack_from(">i", profile, red + 8)
    struct.pack_into(">i", profile, red + 8, x + change)
    image = noise(16, 16)
    data = encoded(image, "PNG", icc_profile=bytes(profile))
    assert np.array_equal(read_pixels(data, contract(16, color="srgb")), np.asarray(image))


def test_lab_is_read_by_colour_and_by_grey() -> None:
    """A TIFF in CIE L*a*b* has its colours, which a network in grey sees as their luma."""
    colour, to_lab = Image.new("RGB", (16, 16), (200, 80, 40)), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(colour, ImageCms.createProfile("sRGB"), to_lab, outputMode="LAB")
    assert lab is not None
    data = encoded(lab, "TIFF")
    assert np.abs(read_pixels(data, contract(16)).astype(int) - (200, 80, 40)).max() <= 2
    luma = round(200 * 0.299 + 80 * 0.587 + 40 * 0.114)
    assert np.abs(read_pixels(data, contract(16, channels=1)).astype(int) - luma).max() <= 2


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("side", [16, 1100])
def test_alpha_that_is_zero_everywhere_counts_as_opaque(file_format: str, side: int) -> None:
    """Its writer left it unset; one pixel that is not transparent makes the rest white."""
    image = Image.new("RGBA", (side, side), (200, 40, 90, 0))
    data = encoded(image, file_format, lossless=True, exact=True)
    assert (read_pixels(data, contract(16)) == (200, 40, 90)).all()
    image.putpixel((side - 1, side - 1), (0, 0, 0, 255))
    data = encoded(image, file_format, lossless=True, exact=True)
    assert read_pixels(data, contract(16))[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "F", "I;16"])
def test_bands_of_large_images_fit_together(mode: str) -> None:
    """An image of several bands is converted like its parts."""
    small = noise(16, 16, "RGBA")
    small = (
        Image.fromarray(np.asarray(small.convert("L")).astype(np.uint16) * 256)
        if mode == "I;16"
        else small.convert(mode)
    )
    side = 1600
    large = small.resize((side, side), Image.Resampling.NEAREST)
    seen = read_pixels(encoded(large, "TIFF" if mode in ("F", "LA") else "PNG"), contract(side))
    expected = read_pixels(encoded(small, "TIFF" if mode in ("F", "LA") else "PNG"), contract(16))
    assert np.array_equal(seen[50::100, 50::100], expected)


@pytest.mark.parametrize(
    ("image", "file_format", "least"),
    [
        (Image.new("RGB", (1000, 1000)), "PNG", 4),
        (Image.new("RGBA", (1000, 1000)), "WEBP", 16),
        (Image.new("F", (1000, 1000)), "TIFF", 5),
        (Image.new("P", (1000, 1000)), "GIF", 5),
    ],
)
def test_the_memory_of_decoding_is_estimated(image: Image.Image, file_format: str, least: int) -> None:
    """The estimate has the image, its copy, and what the decoder keeps: so many bytes a pixel at least."""
    plain = simplify(encoded(image, file_format), 1_000_000)
    assert least * 10**6 <= estimate_decode_bytes(plain, contract(32)) <= (least + 48) * 10**6


def test_a_scaled_jpeg_takes_less_memory() -> None:
    """A JPEG of many times the size is decoded at an eighth."""
    plain = simplify(encoded(Image.new("RGB", (2000, 2000)), "JPEG"), 10**7)
    assert estimate_decode_bytes(plain, contract(32)) < 10**7 < estimate_decode_bytes(plain, contract(1000))
