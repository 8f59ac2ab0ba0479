"""From an image of any kind to the network's pixels and their normalisation."""

import io
import struct
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from models.normalise import normalise
from models.preprocess import INTERPOLATIONS, MAX_ASPECT_RATIO, Preprocessing, preprocess, resize_whole


def contract(size: int, resize: int | None = None, channels: int = 3, **more: Any) -> Preprocessing:
    half = (0.5,) * channels
    return Preprocessing(size=size, resize=resize or size, mean=half, std=half, channels=channels, **more)


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8), mode)


def reopened(image: Image.Image, file_format: str, **options: Any) -> Image.Image:
    """The image as it comes back from a file of the format."""
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return Image.open(file)


def grey(image: Image.Image) -> NDArray[np.uint8]:
    """The image's (S, S) pixels as one grey channel, of a square image left at its size."""
    return preprocess(image, contract(image.width, channels=1))[:, :, 0]


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(
    ("width", "height", "resize", "size"),
    [
        (500, 375, 256, 224),
        (375, 500, 256, 224),
        (97, 33, 32, 32),
        (33, 97, 48, 32),
        (224, 224, 224, 224),
        (256, 300, 256, 223),
        (7, 28, 64, 64),
        (801, 203, 37, 32),
    ],
)
def test_equals_torchvision(interpolation: str, width: int, height: int, resize: int, size: int) -> None:
    """Resize and central crop are torchvision's on a PIL image, bit by bit, smaller or larger, wide or tall."""
    image = noise(width, height)
    theirs = transforms.Compose(
        [transforms.Resize(resize, InterpolationMode(interpolation)), transforms.CenterCrop(size)]
    )
    ours = preprocess(image, contract(size, resize, interpolation=interpolation))
    assert ours.dtype == np.uint8
    assert np.array_equal(ours, np.asarray(theirs(image)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("width", "height", "shorter"), [(500, 375, 96), (33, 97, 64), (40, 40, 40)])
def test_whole_images_are_resized_alone(width: int, height: int, shorter: int, channels: int) -> None:
    """Without a crop an image keeps its shape, and its pixels are torchvision's `Resize`."""
    image = noise(width, height, "RGB" if channels == 3 else "L")
    ours = resize_whole(image, shorter, contract(32, channels=channels))
    theirs = np.asarray(transforms.Resize(shorter)(image)).reshape(*ours.shape[:2], channels)
    assert min(ours.shape[:2]) == shorter
    assert np.array_equal(ours, theirs)


def test_the_middle_of_a_whole_image_is_the_crop() -> None:
    """Cropping what `whole` gives at `resize` pixels is what `pixels` gives, alpha, EXIF and all."""
    exif = Image.Exif()
    exif[274] = 6
    image = noise(60, 40, "RGBA")
    seen, crop = (reopened(image, "PNG", exif=exif) for _ in range(2))
    assert np.array_equal(resize_whole(seen, 36, contract(32, 36))[11:43, 2:34], preprocess(crop, contract(32, 36)))


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
    image = reopened(Image.fromarray(np.ascontiguousarray(stored(scene))), file_format, exif=exif, lossless=True)
    assert np.array_equal(preprocess(image, contract(16)), scene)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_odd_exif_does_not_matter(file_format: str) -> None:
    """A tag of the wrong type does not keep a picture from being turned, and EXIF that is none leaves it as it is."""
    width, upside_down = struct.pack(">HHIf", 256, 11, 1, 1.5), struct.pack(">HHIHH", 274, 3, 1, 3, 0)
    odd = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 2) + width + upside_down + bytes(4)
    plain, turned, broken = (
        preprocess(reopened(noise(16, 16), file_format, lossless=True, **exif), contract(16))
        for exif in ({}, {"exif": odd}, {"exif": b"Exif\0\0garbage!"})
    )
    assert np.array_equal(turned, plain[::-1, ::-1])
    assert np.array_equal(broken, plain)


def test_alpha_is_put_on_white() -> None:
    """What is transparent becomes white, what is half transparent half white, whatever colour lies below."""
    values = np.array([[[200, 0, 40, 255], [200, 0, 40, 0]], [[0, 0, 0, 51], [255, 255, 255, 128]]], np.uint8)
    seen = preprocess(reopened(Image.fromarray(values), "PNG"), contract(2))
    assert seen.tolist() == [[[200, 0, 40], [255, 255, 255]], [[204, 204, 204], [255, 255, 255]]]


def test_grey_with_alpha_is_put_on_white() -> None:
    """The same for grayscale with alpha."""
    values = np.array([[[100, 255], [100, 0]], [[0, 51], [0, 255]]], np.uint8)
    assert grey(reopened(Image.fromarray(values, "LA"), "PNG")).tolist() == [[100, 255], [204, 0]]


@pytest.mark.parametrize(("file_format", "transparency"), [("PNG", 1), ("PNG", bytes([255, 0, 255])), ("GIF", 1)])
def test_transparent_palette_entries_are_white(file_format: str, transparency: int | bytes) -> None:
    """A palette's transparent entry becomes white, given as an index or as an alpha for each entry."""
    image = Image.new("P", (2, 2))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([0, 1, 2, 0])
    seen = preprocess(reopened(image, file_format, transparency=transparency), contract(2))
    assert seen.tolist() == [[[10, 20, 30], [255, 255, 255]], [[70, 80, 90], [10, 20, 30]]]


@pytest.mark.parametrize(
    ("mode", "key", "other"), [("RGB", (1, 2, 3), (1, 2, 4)), ("L", 7, 8), ("1", 0, 255), ("I;16", 700, 0x0900)]
)
def test_a_transparent_colour_is_white(mode: str, key: Any, other: Any) -> None:
    """A PNG's tRNS chunk makes one colour transparent."""
    image = Image.new(mode, (2, 2), other)
    image.putpixel((1, 0), key)
    seen = preprocess(reopened(image, "PNG", transparency=key), contract(2))
    assert seen[0, 1].tolist() == [255, 255, 255]
    expected = other if mode == "RGB" else [other >> 8 if mode == "I;16" else other] * 3
    assert seen[0, 0].tolist() == list(expected)


def test_greyscale_fills_three_channels_and_colour_one() -> None:
    """Grayscale becomes three equal channels; colour becomes luma by ITU-R 601."""
    image = noise(8, 8, "L")
    assert np.array_equal(preprocess(image, contract(8)), np.asarray(image)[:, :, None].repeat(3, axis=2))
    colour = Image.new("RGB", (4, 4), (255, 0, 100))
    assert (grey(colour) == round(255 * 0.299 + 100 * 0.114)).all()


def test_one_bit_images_are_black_and_white() -> None:
    """A bit becomes 0 or 255."""
    bits = np.array([[True, False], [False, True]])
    assert grey(reopened(Image.fromarray(bits), "PNG")).tolist() == [[255, 0], [0, 255]]


@pytest.mark.parametrize(("mode", "dtype", "file_format"), [("I;16", "<u2", "PNG"), ("I;16B", ">u2", "TIFF")])
def test_sixteen_bits_are_scaled(mode: str, dtype: str, file_format: str) -> None:
    """16-bit grayscale keeps its upper 8 bits, in either byte order."""
    values = np.array([[0, 255], [0x8000, 0xFFFF]], dtype)
    image = reopened(Image.frombytes(mode, (2, 2), values.tobytes()), file_format)
    assert image.mode.startswith("I;16")
    assert grey(image).tolist() == [[0, 0], [128, 255]]


def test_big_endian_sixteen_bits_are_turned_too() -> None:
    """A 16-bit big-endian TIFF with an orientation comes out upright as well."""
    values = np.array([[0x1000, 0x2000], [0x3000, 0x4000]], ">u2")
    exif = Image.Exif()
    exif[274] = 3
    image = reopened(Image.frombytes("I;16B", (2, 2), values.tobytes()), "TIFF", exif=exif)
    assert grey(image).tolist() == [[0x40, 0x30], [0x20, 0x10]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[0.0, 0.5], [1.0, 0.25]], [[0, 128], [255, 64]]),
        ([[0.0, 127.6], [255.0, 300.0]], [[0, 128], [255, 255]]),
        ([[float("nan"), -1.0], [float("inf"), 2.0]], [[0, 0], [255, 2]]),
    ],
)
def test_float_images_are_scaled(values: list[list[float]], expected: list[list[int]]) -> None:
    """Floats are read from [0, 1], or from [0, 255] if any is larger; what is not a number is black."""
    image = reopened(Image.fromarray(np.array(values, np.float32)), "TIFF")
    assert image.mode == "F"
    assert grey(image).tolist() == expected


def test_cmyk_jpeg_has_its_colours() -> None:
    """A CMYK JPEG is read as ink: full magenta and yellow are red, no ink is white."""
    for ink, colour in (((0, 255, 255, 0), (255, 0, 0)), ((0, 0, 0, 0), (255, 255, 255)), ((0, 0, 0, 255), (0, 0, 0))):
        seen = preprocess(reopened(Image.new("CMYK", (16, 16), ink), "JPEG", quality=100), contract(16))
        assert np.abs(seen.astype(int) - colour).max() <= 2


@pytest.mark.parametrize("shape", [(200_000, 1), (1, 200_000)])
def test_extreme_shapes_stay_cheap(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of 200,000 pixels is cut to its middle before it is made 32 pixels thick."""
    real, areas = Image.Image.resize, []

    def resize(self: Image.Image, size: tuple[int, int], *rest: Any, **more: Any) -> Image.Image:
        areas.append(size[0] * size[1])
        return real(self, size, *rest, **more)

    monkeypatch.setattr(Image.Image, "resize", resize)
    line = np.zeros((200_000, 3), np.uint8)
    line[99_998:100_002] = 200
    seen = preprocess(Image.fromarray(line.reshape(*shape, 3)), contract(32))
    assert areas == [32 * 32 * MAX_ASPECT_RATIO]
    assert (seen == 200).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_normalisation_is_torchvision_s(channels: int) -> None:
    """(N, S, S, C) bytes become (N, C, S, S) floats, as ToTensor and Normalize make them, channels last in memory."""
    mean, std = (0.485, 0.456, 0.406)[:channels], (0.229, 0.224, 0.225)[:channels]
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, channels), np.uint8)
    ours = normalise(torch.from_numpy(images), Preprocessing(8, 8, mean, std, channels))
    theirs = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])
    assert ours.dtype == torch.float32
    assert torch.equal(ours, torch.stack([theirs(image) for image in images]))
    assert ours.permute(0, 2, 3, 1).is_contiguous()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 0}, "size is 0, but must lie in 1..4096"),
        ({"size": 5000, "resize": 5000}, "size is 5000, but must lie in 1..4096"),
        ({"resize": 31}, r"resize is 31, but must lie in 32 \(the size\)..8192"),
        ({"resize": 9000}, r"resize is 9000, but must lie in 32 \(the size\)..8192"),
        ({"channels": 2}, "channels is 2, but must be 1"),
        ({"mean": (0.5,)}, "mean and std have 1 and 3 values for 3 channels"),
        ({"mean": (0.5, 0.5, 127.0)}, r"mean is \(0.5, 0.5, 127.0\) and std .*, but must lie in \[0, 1\] and \(0, 1\]"),
        ({"std": (0.5, 0.5, 0.0)}, r"mean is .* and std \(0.5, 0.5, 0.0\), but must lie in"),
        ({"std": (0.5, 0.5, float("nan"))}, "mean is .* and std .*nan"),
        ({"interpolation": "area"}, "interpolation is 'area', but must be one of nearest, bilinear, bicubic, lanczos"),
        ({"crop": "none"}, "crop is 'none' and antialias True, but must be 'center' and true"),
        ({"antialias": False}, "crop is 'center' and antialias False, but must be 'center' and true"),
    ],
)
def test_impossible_contracts_are_refused(fields: dict[str, Any], message: str) -> None:
    """A field out of range is refused by its name, its value and the range."""
    sound: dict[str, Any] = {"size": 32, "resize": 32, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    with pytest.raises(ValueError, match=f"^{message}"):
        Preprocessing(**(sound | fields))


def test_a_large_jpeg_is_decoded_smaller_and_looks_the_same() -> None:
    """A JPEG of many times the size is not decoded in full; its pixels differ by a few levels at most."""
    image = noise(60, 40).resize((1200, 800), Image.Resampling.BICUBIC)
    resize_whole, drafted = reopened(image, "JPEG", quality=90), reopened(image, "JPEG", quality=90)
    resize_whole.load()
    difference = np.abs(preprocess(resize_whole, contract(32)).astype(int) - preprocess(drafted, contract(32)))
    assert resize_whole.size == (1200, 800)
    assert drafted.size == (150, 100)
    assert difference.max() <= 6
    assert difference.mean() < 1


def test_a_jpeg_of_less_than_twice_the_size_is_decoded_in_full() -> None:
    """A JPEG is never decoded to less than twice the resized image."""
    image = reopened(noise(120, 127), "JPEG")
    preprocess(image, contract(32))
    assert image.size == (120, 127)
