"""Augmentation: what may change, what may not, and that it can be repeated."""

from typing import Any

import pytest
import torch
from torch import Tensor

from training.data.augment import Augmentation, reflected
from training.recipes import make_recipe

PLAIN = {"shift": 0.0, "shrink": 0.0, "flip": "none", "contrast": 1.0, "invert": False, "channels": 3}
INDICES = torch.arange(64)


def images() -> Tensor:
    return torch.randint(0, 256, (64, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def augmented(epoch: int = 0, seed: int = 0, **settings: Any) -> Tensor:
    augment = Augmentation(make_recipe("digits", {**PLAIN, **settings}), count=64)
    return augment(images(), INDICES, epoch, torch.Generator().manual_seed(seed))


def test_nothing_asked_for_changes_nothing() -> None:
    """With every change off the images come back as they were."""
    assert torch.equal(augmented(), images())


@pytest.mark.parametrize("border", ["reflect", "black"])
def test_shifts_stay_in_their_range(border: str) -> None:
    """A shift moves an image by whole pixels, up to the share asked for, and over the run of draws by all of them."""
    marked = torch.zeros(64, 32, 32, 3, dtype=torch.uint8)
    marked[:, 16, 16] = 255
    augment = Augmentation(make_recipe("digits", {**PLAIN, "shift": 0.125, "border": border}), count=64)
    moved = augment(marked, INDICES, 0, torch.Generator().manual_seed(0))
    places = moved[..., 0].nonzero()[:, 1:] - 16
    assert len(places) == 64
    assert places.abs().max() == 4
    assert len({tuple(place.tolist()) for place in places}) > 30


def test_what_is_shifted_in_is_the_mirror_or_black() -> None:
    """Beyond the edge the image is mirrored, or there is nothing."""
    assert augmented(shift=0.25, border="black").sum() < images().sum()
    assert reflected(torch.tensor([-2, -1, 0, 3, 4, 5]), 4).tolist() == [2, 1, 0, 3, 2, 1]


def test_alternating_flips_show_both_sides_in_turn() -> None:
    """Two epochs in a row show an image and its mirror image, and half of the images begin mirrored."""
    first, second, third = (augmented(epoch, flip="alternating") for epoch in range(3))
    assert torch.equal(first, second.flip(2))
    assert torch.equal(first, third)
    mirrored = sum(not torch.equal(one, other) for one, other in zip(first, images(), strict=True))
    assert 16 <= mirrored <= 48


def test_holes_are_grey_squares() -> None:
    """Cutout puts one square of its size in each image, cut off where it lies at the edge."""
    white = torch.full((64, 32, 32, 3), 255, dtype=torch.uint8)
    augment = Augmentation(make_recipe("digits", {**PLAIN, "cutout": 0.375}), count=64)
    holes = augment(white, INDICES, 0, torch.Generator().manual_seed(0))[..., 0] != 255
    heights, widths = (holes.any(dim).sum(1) for dim in (2, 1))
    assert torch.equal(holes.sum((1, 2)), heights * widths)
    assert (int(heights.max()), int(widths.max())) == (12, 12)
    assert heights.min() >= 6
    assert len({tuple(hole.nonzero()[0].tolist()) for hole in holes}) > 30


def test_scales_are_cut_to_the_networks_size() -> None:
    """Larger images come out as squares of the network's size, at one scale a batch and at places of their own."""
    recipe = make_recipe("digits", {**PLAIN, "scale_jitter": 2.0})
    assert recipe.train_side == 64
    ramp = torch.arange(64).mul(4).to(torch.uint8)
    larger = ramp[None, :, None, None].expand(64, 64, 64, 3).contiguous()  # each row is 4 brighter than the last
    augment, steps = Augmentation(recipe, count=64), set()
    for seed in range(8):
        cut = augment(larger, INDICES, 0, torch.Generator().manual_seed(seed))[..., 0, 0].double()  # (64, 32)
        assert cut.shape == (64, 32)
        slopes = (cut[:, -1] - cut[:, 0]) / 31
        assert slopes.max() - slopes.min() < 0.5
        steps.add(round(float(slopes.mean())))
        assert len(set(cut[:, 16].tolist())) > 1 or slopes.mean() > 7
    assert min(steps) >= 4
    assert max(steps) <= 8
    assert len(steps) >= 3


def test_random_flips_mirror_some() -> None:
    """Each image is either itself or its mirror image."""
    result, original = augmented(flip="random"), images()
    same = (result == original).all((1, 2, 3))
    mirrored = (result == original.flip(2)).all((1, 2, 3))
    assert bool((same | mirrored).all())
    assert 16 <= int(mirrored.sum()) <= 48


def test_inverting_shows_negatives_of_some() -> None:
    """Each image is either itself or its negative."""
    result, original = augmented(invert=True), images()
    same, negative = (result == original).all((1, 2, 3)), (result == 255 - original).all((1, 2, 3))
    assert bool((same ^ negative).all())
    assert 16 <= int(negative.sum()) <= 48


def test_shrinking_shows_more_than_the_image() -> None:
    """A shrunken image is smaller in its frame, and black around."""
    white = torch.full((64, 32, 32, 3), 255, dtype=torch.uint8)
    augment = Augmentation(make_recipe("digits", {**PLAIN, "shrink": 0.5, "border": "black"}), count=64)
    share = (augment(white, INDICES, 0, torch.Generator().manual_seed(0)) > 0).float().mean((1, 2, 3))
    assert share.min() >= 0.2
    assert share.min() < 0.5
    assert share.max() <= 1


def test_the_same_generator_draws_the_same() -> None:
    """A step's changes depend on its seed alone."""
    settings: dict[str, Any] = {"shift": 0.2, "shrink": 0.3, "flip": "random", "contrast": 2.0, "invert": True}
    assert torch.equal(augmented(seed=5, **settings), augmented(seed=5, **settings))
    assert not torch.equal(augmented(seed=5, **settings), augmented(seed=6, **settings))


def test_contrast_gains_and_never_turns() -> None:
    """Bright pixels get no darker and dark ones no brighter, by a gain up to the one asked for."""
    result, original = augmented(contrast=4.0), images()
    bright = original > 127
    assert bool((result[bright] >= original[bright]).all())
    assert bool((result[~bright] <= original[~bright]).all())
    distance = original.double() - 127.5
    far = distance.abs() > 20  # where cutting off a fraction is little
    gains = ((result.double() - 127.5) / distance)[far]
    assert 3 < gains.max() < 4.05


def test_images_keep_their_places() -> None:
    """No change mixes the images of a batch, so the labels stay true: one of one grey stays of that grey."""
    grey = torch.arange(64, dtype=torch.uint8)[:, None, None, None].expand(64, 32, 32, 3)
    augment = Augmentation(make_recipe("digits", {**PLAIN, "shift": 0.3, "shrink": 0.5, "border": "reflect"}), count=64)
    assert torch.equal(augment(grey, INDICES, 0, torch.Generator().manual_seed(0)), grey)
