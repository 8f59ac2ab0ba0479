"""Data sets from folders and packages: what is read, how it is split, and what is refused."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
import torchvision.datasets
from PIL import Image

from models.formats.plain import NotEnoughMemory
from models.image_files import read_pixels
from models.preprocess import Preprocessing
from tests.fakes.folders import fill
from training.data.dataset import Dataset, check_writable_labels, load_dataset, write_images
from training.data.statistics import channel_statistics
from training.errors import TrainingError
from training.recipes import make_recipe

T = TypeVar("T")


def passing(items: Iterable[T], total: int, doing: str) -> Iterable[T]:
    """Tracks nothing."""
    return items


def load_folder(path: Path, **settings: Any) -> Dataset:
    small = {"size": 32, "width": 0.125}
    return load_dataset(make_recipe(f"folder:{path}", {**small, **settings}), path, passing)


def rows(dataset: Dataset, name: str) -> set[bytes]:
    return {image.numpy().tobytes() for image in dataset.splits[name].images}


def test_one_tree_is_split_by_seed(tmp_path: Path) -> None:
    """A share of each class is in each split, no image is in two of them, and the seed alone decides which."""
    fill(tmp_path, {"a": 40, "bb": 80})
    shares = {"val_share": 0.1, "calibration_share": 0.2, "test_share": 0.05}
    dataset = load_folder(tmp_path, **shares)
    assert dataset.labels == ("a", "bb")
    counts = {name: torch.bincount(split.labels).tolist() for name, split in dataset.splits.items()}
    assert counts == {"train": [26, 52], "val": [4, 8], "calibration": [8, 16], "test": [2, 4]}
    assert len(set.union(*(rows(dataset, name) for name in counts))) == 120
    assert load_folder(tmp_path, **shares).fingerprints == dataset.fingerprints
    assert rows(load_folder(tmp_path, **shares, seed=1), "val") != rows(dataset, "val")


def test_a_start_s_preprocessing_is_kept(tmp_path: Path) -> None:
    """Images are resized, cropped and normalised as the starting weights need it, in proportion to the run's size."""
    fill(tmp_path / "train", {"a": 3, "bb": 3})
    fill(tmp_path / "val", {"a": 1, "bb": 1})
    start = Preprocessing(224, 256, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), interpolation="bicubic")
    recipe = make_recipe(f"folder:{tmp_path}", {"size": 64, "scale_jitter": 1.5})
    dataset = load_dataset(recipe, tmp_path, passing, start)
    p = dataset.preprocessing
    assert p == Preprocessing(64, 73, start.mean, start.std, interpolation="bicubic")
    assert read_pixels((tmp_path / "val" / "a" / "0.png").read_bytes(), p).tobytes() in rows(dataset, "val")
    larger = Preprocessing(96, 110, start.mean, start.std, interpolation="bicubic")
    assert read_pixels((tmp_path / "train" / "a" / "0.png").read_bytes(), larger).tobytes() in rows(dataset, "train")


def test_train_and_val_folders_are_kept(tmp_path: Path) -> None:
    """Where there are train/ and val/, they are the parts."""
    fill(tmp_path / "train", {"a": 3, "bb": 3})
    fill(tmp_path / "val", {"a": 1, "bb": 2}, seed=500)
    dataset = load_folder(tmp_path)
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 4, "val": 3, "test": 2}


@pytest.mark.parametrize("crop", ["center", "squash", "pad"])
def test_images_are_what_the_service_will_see(tmp_path: Path, crop: str) -> None:
    """Every image passes through the preprocessing that is stored in the checkpoint, whatever its crop."""
    fill(tmp_path, {"a": 2, "bb": 2})
    dataset = load_folder(tmp_path, crop=crop)
    assert (dataset.preprocessing.crop, dataset.preprocessing.color) == (crop, "srgb")
    files = sorted(tmp_path.rglob("*.png"))
    seen = {read_pixels(file.read_bytes(), dataset.preprocessing).tobytes() for file in files}
    assert seen == set.union(*(rows(dataset, name) for name in dataset.splits))


def test_bars_have_the_mean_colour_of_the_images(tmp_path: Path) -> None:
    """They take the mean of the images without bars, or that of the checkpoint from which the run starts."""
    for label in ("a", "bb"):
        (tmp_path / label).mkdir()
        for i in range(2):
            Image.new("RGB", (64, 16), (51, 102, 153)).save(tmp_path / label / f"{i}.png")
    dataset = load_folder(tmp_path, crop="pad")
    assert dataset.preprocessing.mean == (0.2, 0.4, 0.6)
    assert (dataset.splits["train"].images == torch.tensor([51, 102, 153], dtype=torch.uint8)).all()
    recipe = make_recipe(f"folder:{tmp_path}", {"size": 32, "crop": "pad"})
    start = Preprocessing(32, 32, (1.0, 0.0, 1.0), (0.5,) * 3)
    followed = load_dataset(recipe, tmp_path, passing, start)
    assert followed.splits["train"].images[0, 0, 0].tolist() == [255, 0, 255]


def test_held_out_images_can_be_written(tmp_path: Path) -> None:
    """They come out as LABEL/NUMBER.png, pixel for pixel."""
    dataset = load_folder(fill(tmp_path / "in", {"a": 5, "bb": 5}))
    write_images(dataset.splits["val"], dataset.labels, tmp_path / "out")
    files = sorted((tmp_path / "out").rglob("*.png"))
    assert {file.parent.name for file in files} == {"a", "bb"}
    again = {read_pixels(file.read_bytes(), dataset.preprocessing).tobytes() for file in files}
    assert again == rows(dataset, "val")


def test_digits_are_packaged() -> None:
    """The default data set needs no network: 1,797 digits in ten classes."""
    dataset = load_dataset(make_recipe("digits", {}), Path("nowhere"), passing)
    assert sum(map(len, dataset.splits.values())) == 1797
    assert dataset.labels == tuple("0123456789")
    assert dataset.splits["train"].images.shape[1:] == (32, 32, 1)


def test_statistics_are_those_of_the_images() -> None:
    """Mean and standard deviation per channel, as torch has them."""
    images = torch.randint(0, 256, (9, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    values = images.double() / 255
    mean, std = channel_statistics(images)
    assert mean == pytest.approx(values.mean((0, 1, 2)).tolist(), abs=1e-4)
    assert std == pytest.approx(values.std((0, 1, 2), correction=0).tolist(), abs=1e-4)
    Preprocessing(8, 8, mean, std)


def test_hidden_files_are_no_data(tmp_path: Path) -> None:
    """What file managers leave behind is neither a class nor an image."""
    fill(tmp_path, {"a": 3, "bb": 3})
    (tmp_path / ".cache").mkdir()
    (tmp_path / "a" / ".DS_Store").write_bytes(b"x")
    assert load_folder(tmp_path).labels == ("a", "bb")


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    """A file that is no image ends the run, or is left out and counted on request."""
    fill(tmp_path, {"a": 10, "bb": 10})
    broken = tmp_path / "a" / "notes.txt"
    broken.write_text("hello")
    with pytest.raises(TrainingError, match=r"notes\.txt"):
        load_folder(tmp_path)
    dataset = load_folder(tmp_path, skip_unreadable=True)
    assert dataset.unreadable == (broken,)
    assert sum(map(len, dataset.splits.values())) == 20


@pytest.mark.parametrize(
    ("trees", "message"),
    [
        ({}, "no class folders"),
        ({"": {"a": 3}}, "a is the only class"),
        ({"": {"a": 3, "b": 0}}, "b: no image for the split train"),
        ({"": {"a": 3, "b": 1}}, "b: no image for the split val, .* a class needs at least two images"),
        ({"val": {"a": 2, "b": 2}}, "has val/, but no train/"),
        ({"train": {"a": 2, "b": 2}, "val": {"a": 1, "c": 1}}, r"b \(only in train\), c \(only in val\)"),
    ],
)
def test_folders_that_cannot_be_trained_on(tmp_path: Path, trees: dict[str, dict[str, int]], message: str) -> None:
    """Each fault of a folder has its own sentence, with the names in it."""
    for name, counts in trees.items():
        fill(tmp_path / name, counts)
    with pytest.raises(TrainingError, match=message):
        load_folder(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """A path that is no folder is named."""
    with pytest.raises(TrainingError, match="nowhere is not a folder"):
        load_folder(tmp_path / "nowhere")


class FakeCifar:
    """Two images of a class in either part, as torchvision's data sets give them."""

    classes = ("airplane", "automobile")

    def __init__(self, root: Path, *, train: bool, download: bool) -> None:
        self.shade = 200 if train else 50

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        if i >= 4:
            raise IndexError(i)
        return Image.fromarray(np.full((32, 32, 3), self.shade + i, np.uint8)), i % 2


class Unreachable:
    """A data set whose download fails."""

    def __init__(self, root: Path, **_: object) -> None:
        raise OSError("<urlopen error\nno route to host>")


def test_published_parts_stay_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The published test part stays the test split, and the others come from the training part."""
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", FakeCifar)
    dataset = load_dataset(make_recipe("cifar10", {}), tmp_path, passing)
    assert dataset.labels == ("airplane", "automobile")
    shades = {name: split.images[:, 0, 0, 0].tolist() for name, split in dataset.splits.items()}
    assert sorted(shades["train"] + shades["val"]) == [200, 201, 202, 203]
    assert shades["test"] == [50, 51, 52, 53]
    assert dataset.splits["test"].labels.tolist() == [0, 1, 0, 1]


def test_a_failed_download_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The line says what is missing, where it would be looked for, and why it did not come."""
    monkeypatch.setattr(torchvision.datasets, "STL10", Unreachable)
    with pytest.raises(TrainingError, match=f"stl10 is not in {tmp_path} and .* no route to host>$"):
        load_dataset(make_recipe("stl10", {}), tmp_path, passing)


@pytest.mark.parametrize(
    ("given", "settings", "message"),
    [
        ({"train": {"a": 2, "b": 2}, "val": {"a": 0, "b": 0}}, {}, "the split val has no image; delete its folder"),
        ({"train": {"a": 3, "b": 3}, "test": {"a": 0, "b": 0}}, {}, "the split test has no image"),
        ({"train": {"a": 2, "b": 2}, "val": {"a": 1, "b": 0}}, {}, "b: no image for the split val, but every"),
        ({"": {"a": 0, "b": 0}}, {}, "a, b: no image for the split train, but every class needs one$"),
        ({"": {"a": 1, "b": 1}}, {}, "a, b: no image for the split val"),
        ({"": {"a": 9, "b": 9}}, {"val_share": 0.5, "test_share": 0.5}, r"is 1\.1 of each class, but must be below 1"),
    ],
)
def test_a_split_without_images_is_found_before_any_is_read(
    tmp_path: Path, given: dict[str, dict[str, int]], settings: dict[str, Any], message: str
) -> None:
    """The line names the split, and the classes where each of them needs an image."""
    for name, counts in given.items():
        fill(tmp_path / name, counts)

    def no_reading(items: Iterable[T], total: int, doing: str) -> Iterable[T]:
        raise AssertionError(doing)

    recipe = make_recipe(f"folder:{tmp_path}", {"size": 32, **settings})
    with pytest.raises(TrainingError, match=message):
        load_dataset(recipe, tmp_path, no_reading)


@pytest.mark.parametrize(
    ("split", "label", "message"),
    [("test", "", "the split test has no image: all 4 were left out"), ("val", "a", "a: no image for the split val")],
)
def test_a_split_that_skipping_empties_is_an_error(tmp_path: Path, split: str, label: str, message: str) -> None:
    """What is left after --skip-unreadable is checked as well."""
    for name in ("train", "val", "test"):
        fill(tmp_path / name, {"a": 2, "b": 2}, seed=len(name))
    for path in (tmp_path / split / label).rglob("*.png"):
        path.write_bytes(b"not an image")
    with pytest.raises(TrainingError, match=message):
        load_folder(tmp_path, skip_unreadable=True)


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (MemoryError(), MemoryError, "^$"),
        (NotEnoughMemory("too little"), MemoryError, "too little"),
        (OSError(5, "Input/output error"), TrainingError, "cannot be read now"),
        (OSError(24, "Too many open files"), TrainingError, "cannot be read now"),
    ],
)
def test_what_the_machine_cannot_do_is_no_fault_of_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, raised: type[Exception], message: str
) -> None:
    """--skip-unreadable leaves out broken images, and none for want of memory, files or a disk."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("training.data.dataset.read_pixels", fail)
    with pytest.raises(raised, match=message):
        load_folder(fill(tmp_path, {"a": 3, "b": 3}), skip_unreadable=True)


def test_images_with_two_labels_are_reported(tmp_path: Path) -> None:
    """The same pixels under two labels of one split contradict each other. Names are relative to the data."""
    fill(tmp_path / "train", {"a": 3, "b": 3})
    fill(tmp_path / "val", {"a": 1, "b": 1}, seed=50)
    shutil.copy(tmp_path / "train" / "a" / "0.png", tmp_path / "train" / "b" / "copy.png")
    found = load_folder(tmp_path, test_share=0.0).duplicates
    assert found.conflicts == 1
    assert found.conflict_examples == (("train", "train/b/copy.png", "b", "train/a/0.png", "a"),)


def test_names_in_a_checkpoint_are_unicode_text(tmp_path: Path) -> None:
    """A file's name can hold bytes that are not UTF-8. A checkpoint with them could not be read."""
    fill(tmp_path, {"a": 3, "b": 3})
    (tmp_path / "a" / "0.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/a/caf\xe9.png"))
    names = [name for split in load_folder(tmp_path).images.values() for name in split.values()]
    assert "a/caf\\udce9.png" in names


def test_what_each_split_is_made_of_is_said(tmp_path: Path) -> None:
    """Given, or a share of train; and why one is missing, or lacks a class."""
    fill(tmp_path, {"a": 9, "b": 2})
    dataset = load_folder(tmp_path, seed=3)
    assert dataset.origins == {
        "train": "given, without val and test",
        "val": "0.1 of each class of train, by seed 3",
        "calibration": "none, because calibration_share 0.1 of 11 images is fewer than 20; "
        "there will be no prediction sets",
        "test": "0.1 of each class of train, by seed 3",
    }
    assert dataset.notes == ("test has no image of 1 classes: b",)
    origins = load_folder(tmp_path, test_share=0.0, calibration_share=0.0).origins
    assert (origins["test"], origins["calibration"]) == (
        "none, because test_share is 0",
        "none, because calibration_share is 0",
    )


def test_more_than_the_memory_is_refused_before_reading(tmp_path: Path) -> None:
    """First the images, then the images and the network's training: how much, and what needs less."""
    fill(tmp_path, {"a": 3, "b": 3})
    recipe = make_recipe(f"folder:{tmp_path}", {"size": 512, "width": 0.125, "batch_size": 8})
    with pytest.raises(TrainingError, match=r"^6 images at a size of 512 take 4 MiB of memory, but 4 MiB are free;"):
        load_dataset(recipe, tmp_path, passing, available=lambda: 4 * 2**20)
    with pytest.raises(TrainingError, match=r"and training vgg16_bn on them take .* batch_size below 8, a smaller"):
        load_dataset(recipe, tmp_path, passing, available=lambda: 9 * 2**20)


def test_labels_that_are_no_folder_s_name_are_refused(tmp_path: Path) -> None:
    """A table can have a label that leads out of the folder of held-out images."""
    for label in ("../x", "a/b", "..", "x" * 256):
        with pytest.raises(TrainingError, match="cannot be the name of a folder there"):
            check_writable_labels(("cat", label), tmp_path)
    check_writable_labels(("cat", "dog"), tmp_path)
