"""Near-duplicates: what is found as the same picture, what is not, and where."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.fakes.pictures import draw_pictures, make_split
from training.data.dataset import Split
from training.evaluation.near_duplicates import (
    correlate,
    find_near_duplicates,
    hash_thumbnails,
    make_thumbnails,
)

COUNT = 60


def save_as_jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=40)
    return Image.open(file)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "jpeg": save_as_jpeg,
    "resized": lambda image: image.resize((20, 20)).resize((32, 32)),
    "brighter": lambda image: image.point(lambda value: round(0.8 * value + 30)),
    "cropped": lambda image: image.crop((1, 1, 31, 31)).resize((32, 32)),
}


def change(images: Tensor, how: str) -> Tensor:
    changed = [CHANGES[how](Image.fromarray(image.numpy())).convert("RGB") for image in images]
    return torch.stack([torch.from_numpy(np.array(image)) for image in changed])


@pytest.mark.parametrize(("how", "share"), [("jpeg", 0.9), ("resized", 0.9), ("brighter", 0.9), ("cropped", 0.4)])
def test_a_changed_copy_is_found(how: str, share: float) -> None:
    """This share of the copies is found, each as a copy of its own original and of nothing else."""
    images = draw_pictures(COUNT, seed=0)
    found = find_near_duplicates({"train": make_split(images), "test": make_split(change(images, how))})
    assert len(found.pairs) >= share * COUNT
    assert {(pair.split, pair.other_split) for pair in found.pairs} == {("test", "train")}
    assert all(pair.index == pair.other_index for pair in found.pairs)
    assert found.leaked_from_train("test") == [pair.index for pair in found.pairs]


def test_different_pictures_are_not_alike() -> None:
    """A thousand pictures have no near-duplicate."""
    assert find_near_duplicates({"train": make_split(draw_pictures(1_000, seed=0))}).pairs == ()


@pytest.mark.parametrize("noise", [0, 2])
def test_flat_images_do_not_match_each_other(noise: int) -> None:
    """Images of one colour, also with slight noise, are counted and not compared. One with a shape is compared."""
    generator = torch.Generator().manual_seed(0)
    colours = torch.randint(10, 240, (50, 1, 1, 3), generator=generator)
    flat = (colours + torch.randint(0, noise + 1, (50, 32, 32, 3), generator=generator)).to(torch.uint8)
    shape = flat[:1].clone()
    shape[:, 8:20, 4:12] = 250
    found = find_near_duplicates({"train": make_split(torch.cat([flat, shape])), "test": make_split(shape)})
    assert found.flat == 50
    assert [(pair.index, pair.other_index) for pair in found.pairs] == [(0, 50)]


def test_another_colour_of_a_shape_is_another_picture() -> None:
    """A blue square on white is no duplicate of a red square, although their grey values are alike."""
    images = torch.full((2, 32, 32, 3), 255, dtype=torch.uint8)
    images[0, 8:20, 8:20] = torch.tensor([220, 20, 20], dtype=torch.uint8)
    images[1, 8:20, 8:20] = torch.tensor([20, 20, 220], dtype=torch.uint8)
    thumbnails = make_thumbnails(images)
    assert len(set(hash_thumbnails(thumbnails)[0].tolist())) == 1
    assert float(correlate(thumbnails[:1], thumbnails[1:])) < 0.9
    assert find_near_duplicates({"train": make_split(images)}).pairs == ()


@pytest.mark.parametrize("channels", [1, 3])
def test_the_size_of_an_image_does_not_matter(channels: int) -> None:
    """Training images can be larger than the others, and grey ones have one channel."""
    large = draw_pictures(20, seed=1, size=96, channels=channels)
    small = large.float().reshape(20, 32, 3, 32, 3, channels).mean(dim=(2, 4)).to(torch.uint8)
    found = find_near_duplicates({"train": make_split(large), "test": make_split(small)})
    assert sorted(found.leaked_from_train("test")) == list(range(20))


def test_each_split_with_an_earlier_copy_gives_a_pair() -> None:
    """Copies in three splits are two images with three pairs. Pairs with different labels come first."""
    image = draw_pictures(1, seed=0)
    splits = {"train": make_split(image), "val": make_split(image), "test": make_split(image, label=1)}
    found = find_near_duplicates(splits)
    assert found.images == 2
    assert [(p.split, p.other_split, p.label, p.other_label) for p in found.pairs[2:]] == [("val", "train", 0, 0)]
    assert {(p.split, p.other_split, p.label, p.other_label) for p in found.pairs[:2]} == {
        ("test", "train", 1, 0),
        ("test", "val", 1, 0),
    }
    assert all(pair.correlation == pytest.approx(1) for pair in found.pairs)


def test_many_copies_of_one_picture_are_each_counted_once() -> None:
    """Five thousand equal images give one pair each but the first. All those of test are leaks."""
    same = draw_pictures(1, seed=0).expand(5_000, 32, 32, 3)
    found = find_near_duplicates({"train": make_split(same[:3_000]), "test": make_split(same[3_000:])})
    assert found.images == 4_999
    assert len(set(found.leaked_from_train("test"))) == 2_000
    assert found.complete


def test_an_empty_split_is_no_error() -> None:
    """A split without images has no near-duplicates."""
    empty = Split(torch.zeros(0, 32, 32, 3, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))
    assert find_near_duplicates({"train": make_split(draw_pictures(2, 0)), "test": empty}).images == 0
