"""From a data set's name to splits of labelled pixels, ready for the network.

Owns finding and reading the images, the split by seed, and the fingerprint. Every image passes through
`models.preprocess.pixels`, as it will when served. Knows nothing of augmentation or of the network.
"""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.preprocess import Pixels, Preprocessing, pixels
from training.config import Recipe, TrainingError, family, one_line

# What the service decodes too. Pillow tells them by their content, whatever the file is called.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")

Item = tuple[Path | Image.Image, int]  # an image, opened or not, and its label's index
T = TypeVar("T")


class DataError(TrainingError):
    """Data that cannot be trained on."""


class Track(Protocol):
    """Passes `items` through unchanged, showing how many of `total` have come by."""

    def __call__(self, items: Iterable[T], total: int, doing: str) -> Iterable[T]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """`images` are (N, S, S, C) uint8, `labels` (N,) int64, on the same device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """`labels` are the classes' names by index; `splits` has `train` and `val`, which share no image.

    `unreadable` names the images that were left out. `fingerprint` is a SHA-256 over all pixels and
    labels, so two runs with the same one saw the same data.
    """

    name: str
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    splits: dict[str, Split]
    unreadable: tuple[Path, ...]
    fingerprint: str


@dataclass(frozen=True, slots=True)
class _Source:
    labels: tuple[str, ...]
    splits: dict[str, list[Item]]


def load(recipe: Recipe, root: Path, track: Track) -> Dataset:
    """The recipe's data set, all of it in memory: N x S x S x C bytes.

    `root` is where torchvision's data sets lie or are downloaded to. Raises DataError.
    """
    source = _source(recipe, root)
    _check_labels(source.labels)
    _check_memory(sum(map(len, source.splits.values())) * recipe.size**2 * recipe.channels, recipe.size)
    plain = Preprocessing(recipe.size, recipe.size, (0.0,) * recipe.channels, (1.0,) * recipe.channels, recipe.channels)
    splits, unreadable = {}, []
    for name, items in source.splits.items():
        splits[name], left_out = _read(items, plain, recipe.skip_unreadable, track, f"reading {name}")
        unreadable += left_out
        _check_counts(splits[name].labels, source.labels, name)
    mean, std = statistics(splits["train"].images)
    preprocessing = replace(plain, mean=mean, std=std)
    return Dataset(recipe.data, source.labels, preprocessing, splits, tuple(unreadable), _fingerprint(splits))


def write_images(split: Split, labels: tuple[str, ...], folder: Path) -> None:
    """Writes the split as folder/LABEL/NUMBER.png, pixel for pixel what the network sees. Raises OSError."""
    for number, (image, label) in enumerate(zip(split.images, split.labels.tolist(), strict=True)):
        path = folder / labels[label] / f"{number:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        to_image(image).save(path)


def to_image(square: Tensor) -> Image.Image:
    """(S, S, C) uint8 as an image, grayscale or RGB."""
    return Image.fromarray(square.squeeze(2).numpy())


def _source(recipe: Recipe, root: Path) -> _Source:
    match family(recipe.data):
        case "digits":
            return _digits(recipe)
        case "folder":
            return _folder(Path(recipe.data.partition(":")[2]), recipe)
        case name:
            return _torchvision(name, root)


def _digits(recipe: Recipe) -> _Source:
    """1,797 handwritten digits of 8 x 8 pixels, 0 (paper) to 16 (ink), packaged with scikit-learn."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = (digits.images * (255 / 16)).round().astype(np.uint8)
    items: list[Item] = [(Image.fromarray(g), int(t)) for g, t in zip(grey, digits.target, strict=True)]
    return _Source(tuple("0123456789"), split(items, recipe))


def _torchvision(name: str, root: Path) -> _Source:
    """The published training part, and the published test part as the held-out one."""
    from torchvision import datasets

    open_part: dict[str, Any] = {
        "cifar10": lambda part: datasets.CIFAR10(root, train=part == "train", download=True),
        "cifar100": lambda part: datasets.CIFAR100(root, train=part == "train", download=True),
        "stl10": lambda part: datasets.STL10(root, split=part, download=True),
    }
    try:
        train, test = (open_part[name](part) for part in ("train", "test"))
    except (OSError, RuntimeError) as error:
        raise DataError(f"{name} is not in {root} and cannot be downloaded: {one_line(error)}") from error
    return _Source(tuple(train.classes), {"train": list(train), "val": list(test)})


def _folder(path: Path, recipe: Recipe) -> _Source:
    """PATH/train/LABEL/... and PATH/val/LABEL/..., or PATH/LABEL/..., which is split by seed."""
    if not path.is_dir():
        raise DataError(f"{path} is not a folder")
    parts = {name: path / name for name in ("train", "val") if (path / name).is_dir()}
    if not parts:
        classes = _classes(path)
        return _Source(tuple(classes), split(_items(classes), recipe))
    if len(parts) == 1:
        raise DataError(f"{path} has {next(iter(parts))}/, but not both train/ and val/")
    train, val = (_classes(part) for part in parts.values())
    if differing := sorted(train.keys() ^ val.keys()):
        sides = (f"{name} (only in {'train' if name in train else 'val'})" for name in differing)
        raise DataError(f"{path} has class folders that differ between train/ and val/: {', '.join(sides)}")
    return _Source(tuple(train), {"train": _items(train), "val": _items(val)})


def _classes(folder: Path) -> dict[str, list[Path]]:
    """The files of each class folder, at any depth, by name; hidden files and folders are no data."""
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise DataError(f"{folder} has no class folders: each label needs a folder of its images")
    return {name: sorted(_visible_files(folder / name)) for name in names}


def _visible_files(folder: Path) -> Iterable[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def _items(classes: dict[str, list[Path]]) -> list[Item]:
    return [(path, label) for label, paths in enumerate(classes.values()) for path in paths]


def split(items: list[Item], recipe: Recipe) -> dict[str, list[Item]]:
    """Holds `val_share` of each class out, at least one image and never all, chosen by the seed.

    A class of one image goes to `train`, and is reported where the splits are checked.
    """
    held_out: set[int] = set()
    shuffled = torch.randperm(len(items), generator=torch.Generator().manual_seed(recipe.seed_for("split"))).tolist()
    for label in sorted({label for _, label in items}):
        members = [i for i in shuffled if items[i][1] == label]
        held_out.update(members[: min(max(1, round(recipe.val_share * len(members))), len(members) - 1)])
    return {
        "train": [item for i, item in enumerate(items) if i not in held_out],
        "val": [item for i, item in enumerate(items) if i in held_out],
    }


def _read(
    items: list[Item], preprocessing: Preprocessing, skip_unreadable: bool, track: Track, doing: str
) -> tuple[Split, list[Path]]:
    """The items as a split, in order, without the unreadable ones, which are given too."""
    p = preprocessing
    images = torch.empty((len(items), p.size, p.size, p.channels), dtype=torch.uint8)
    read: list[int] = []
    unreadable: list[Path] = []
    pool = ThreadPoolExecutor(os.cpu_count())  # Pillow decodes and resizes without the GIL
    try:
        squares = pool.map(lambda item: _square(item[0], p), items)
        for (where, label), square in zip(items, track(squares, len(items), doing), strict=True):
            if not isinstance(square, DataError):
                images[len(read)] = torch.from_numpy(square.copy())
                read.append(label)
            elif skip_unreadable and isinstance(where, Path):
                unreadable.append(where)
            else:
                raise square
    finally:
        pool.shutdown(cancel_futures=True)
    return Split(images[: len(read)], torch.tensor(read, dtype=torch.int64)), unreadable


def _square(image: Path | Image.Image, preprocessing: Preprocessing) -> Pixels | DataError:
    if isinstance(image, Image.Image):
        return pixels(image, preprocessing)
    try:
        with Image.open(image, formats=FORMATS) as opened:
            return pixels(opened, preprocessing)
    except Exception as error:  # on broken files Pillow raises a dozen kinds, from OSError to struct.error
        return DataError(f"{image} cannot be read as an image ({one_line(error)})")


def _check_labels(labels: tuple[str, ...]) -> None:
    if len(labels) < 2:
        raise DataError(f"{labels[0]} is the only class, but a classifier needs at least two")


def _check_counts(indices: Tensor, labels: tuple[str, ...], name: str) -> None:
    counts = torch.bincount(indices, minlength=len(labels)).tolist()
    if empty := [label for label, count in zip(labels, counts, strict=True) if count == 0]:
        raise DataError(f"{', '.join(empty)} has no readable image for {name}, but every class needs one there")


def _check_memory(need_bytes: int, size: int) -> None:
    have_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if need_bytes > have_bytes:
        raise DataError(
            f"the images take {need_bytes / 2**30:.1f} GiB at a size of {size}, "
            f"but this machine has {have_bytes / 2**30:.1f} GiB of memory"
        )


def statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of (N, S, S, C) uint8 images per channel, on a scale of 0 to 1."""
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in images.unbind(3):  # from a histogram: no copy of the images in floats
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        mean = (share * values).sum()
        means.append(round(float(mean), 4))
        stds.append(max(round(float((share * (values - mean) ** 2).sum().sqrt()), 4), 1e-4))
    return tuple(means), tuple(stds)


def _fingerprint(splits: dict[str, Split]) -> str:
    digest = hashlib.sha256()
    for name, part in sorted(splits.items()):
        digest.update(f"{name} {tuple(part.images.shape)}".encode())
        digest.update(part.images.numpy().data)
        digest.update(part.labels.numpy().data)
    return digest.hexdigest()
