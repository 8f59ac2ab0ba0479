"""Which image goes where: shares by seed, small classes, given parts, and images that are in two splits."""

from collections import Counter
from typing import Any

import pytest
from PIL import Image

from training.data.items import Item
from training.data.splits import complete_splits, find_duplicates
from training.recipes import make_recipe


def items(*counts: int) -> list[Item]:
    """So many images of each class, all of them different objects."""
    return [(Image.new("L", (1, 1)), label) for label, count in enumerate(counts) for _ in range(count)]


def split(parts: dict[str, list[Item]], **settings: Any) -> dict[str, list[Item]]:
    return complete_splits(parts, make_recipe("cifar10", settings))


def counts(parts: dict[str, list[Item]]) -> dict[str, dict[int, int]]:
    return {name: dict(Counter(label for _, label in part)) for name, part in parts.items()}


def test_each_class_gives_its_share() -> None:
    """Shares are of each class, and each image is in one split."""
    parts = split({"train": items(100, 200)}, val_share=0.1, calibration_share=0.2, test_share=0.3)
    assert counts(parts) == {
        "train": {0: 40, 1: 80},
        "val": {0: 10, 1: 20},
        "calibration": {0: 20, 1: 40},
        "test": {0: 30, 1: 60},
    }
    assert len({id(image) for part in parts.values() for image, _ in part}) == 300


def test_the_seed_chooses() -> None:
    """The same seed chooses the same images, another one others."""
    given = {"train": items(100, 100)}
    chosen = [[id(image) for image, _ in split(given, seed=seed)["test"]] for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1]
    assert chosen[0] != chosen[2]


def test_what_a_source_has_is_kept() -> None:
    """Only what is missing comes from the training part."""
    test = items(3, 3)
    parts = split({"train": items(100, 100), "test": test}, calibration_share=0.5)
    assert parts["test"] == test
    assert counts(parts)["calibration"] == {0: 50, 1: 50}
    assert sum(map(len, parts.values())) == 206


@pytest.mark.parametrize(("count", "expected"), [(1, ["train"]), (2, ["train", "val"]), (3, ["train", "val", "test"])])
def test_small_classes_are_trained_on_first(count: int, expected: list[str]) -> None:
    """The first image of a class is for training, the second for val, the third for test."""
    assert list(split({"train": items(count, count)})) == expected


def test_a_calibration_that_promises_nothing_stays_in_train() -> None:
    """Below twenty images there is no calibration split, and its images are trained on."""
    assert "calibration" not in split({"train": items(90, 90)}, calibration_share=0.1)
    assert len(split({"train": items(100, 100)}, calibration_share=0.1)["calibration"]) == 20
    assert "test" not in split({"train": items(100, 100)}, test_share=0.0)


def test_images_in_two_splits_are_found() -> None:
    """A split is asked for what the ones before it have; copies within one split are its own affair."""
    found = find_duplicates(
        {"train": ["a", "b", "c"], "val": ["d", "e"], "test": ["f", "g"]},
        {"train": [b"1", b"1", b"2"], "val": [b"3", b"2"], "test": [b"2", b"3"]},
    )
    assert found.counts == {"val": 1, "test": 2}
    assert found.examples == (
        ("val", "e", "train", "c"),
        ("test", "f", "train", "c"),
        ("test", "g", "val", "d"),
    )


def test_different_images_are_no_duplicates() -> None:
    """Where all differ there is nothing to tell."""
    found = find_duplicates({"train": ["a"], "val": ["b"]}, {"train": [b"1"], "val": [b"2"]})
    assert (found.counts, found.examples) == ({}, ())
