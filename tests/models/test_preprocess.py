"""From an image in memory to the network's pixels."""

import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from models.preprocess import INTERPOLATIONS, MAX_ASPECT_RATIO, Preprocessing, preprocess, resize_whole


def contract(size: int, resize: int | None = None, channels: int = 3, **more: Any) -> Preprocessing:
    half = (0.5,) * channels
    return Preprocessing(size=size, resize=resize or size, mean=half, std=half, channels=channels, **more)


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8), mode)


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


def test_greyscale_fills_three_channels_and_colour_one() -> None:
    """Grayscale becomes three equal channels; colour becomes luma by ITU-R 601."""
    image = noise(8, 8, "L")
    assert np.array_equal(preprocess(image, contract(8)), np.asarray(image)[:, :, None].repeat(3, axis=2))
    colour = Image.new("RGB", (4, 4), (255, 0, 100))
    assert (grey(colour) == round(255 * 0.299 + 100 * 0.114)).all()


@pytest.mark.parametrize("size", [(90, 61), (61, 90), (20, 20)])
@pytest.mark.parametrize("channels", [1, 3])
def test_squash_is_torchvision_s_resize_to_a_square(size: tuple[int, int], channels: int) -> None:
    """Both sides become `size`, whatever the image's shape."""
    image = noise(*size, "RGB" if channels == 3 else "L")
    ours = preprocess(image, contract(32, channels=channels, crop="squash"))
    assert np.array_equal(ours, np.asarray(transforms.Resize((32, 32))(image)).reshape(32, 32, channels))


@pytest.mark.parametrize(("size", "inner"), [((64, 32), (32, 16)), ((16, 64), (8, 32)), ((32, 32), (32, 32))])
def test_pad_shows_the_whole_image_between_bars(size: tuple[int, int], inner: tuple[int, int]) -> None:
    """The longer side becomes `size`, and the bars on either side of the shorter one have the mean colour."""
    image = noise(*size)
    seen = preprocess(image, Preprocessing(32, 32, (0.2, 0.4, 0.6), (0.5,) * 3, crop="pad"))
    width, height = inner
    left, top = (32 - width) // 2, (32 - height) // 2
    inside = np.zeros((32, 32), bool)
    inside[top : top + height, left : left + width] = True
    resized = np.asarray(image.resize(inner, Image.Resampling.BILINEAR))
    assert np.array_equal(seen[inside].reshape(height, width, 3), resized)
    assert (seen[~inside] == (51, 102, 153)).all()


@pytest.mark.parametrize("crop", ["squash", "pad"])
@pytest.mark.parametrize("shape", [(200_000, 1), (1, 200_000)])
def test_whole_images_of_extreme_shape_stay_cheap(crop: str, shape: tuple[int, int]) -> None:
    """A line of 200,000 pixels is shortened before it is widened, and is seen as a whole."""
    line = np.zeros((200_000, 3), np.uint8)
    line[:100_000] = 200
    started = time.process_time()
    seen = preprocess(Image.fromarray(line.reshape(*shape, 3)), contract(32, crop=crop))
    assert time.process_time() - started < 1
    assert (seen == 200).any()
    assert (seen == 0).any()


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
        ({"crop": "none"}, "crop is 'none', but must be one of center, squash, pad"),
        ({"color": "adobe"}, "color is 'adobe', but must be one of stored, srgb"),
        ({"antialias": False}, "antialias is False, but must be true"),
    ],
)
def test_impossible_contracts_are_refused(fields: dict[str, Any], message: str) -> None:
    """A field out of range is refused by its name, its value and the range."""
    sound: dict[str, Any] = {"size": 32, "resize": 32, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    with pytest.raises(ValueError, match=f"^{message}"):
        Preprocessing(**(sound | fields))
