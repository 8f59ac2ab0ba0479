"""From a data set's name to its labels and its images, still unread.

Owns finding them: the packaged digits, torchvision's data sets, folders. Knows nothing of pixels, nor of
how a part is split further.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from training.recipe import Recipe, TrainingError, dataset_kind, one_line_message

SPLITS = ("train", "val", "calibration", "test")

Item = tuple[Path | Image.Image, int]  # an image, opened or not, and its label's index


class DataError(TrainingError):
    """Data that cannot be trained on."""


@dataclass(frozen=True, slots=True)
class Source:
    """The classes' names by index, and the images of `train` and of whichever others of SPLITS are given."""

    labels: tuple[str, ...]
    parts: dict[str, list[Item]]


def find_source(recipe: Recipe, root: Path) -> Source:
    """What the recipe's data set has. `root` is where torchvision's lie or are downloaded to. Raises DataError."""
    match dataset_kind(recipe.data):
        case "digits":
            return _digits()
        case "folder":
            return _folder(Path(recipe.data.partition(":")[2]))
        case name:
            return _torchvision(name, root)


def _digits() -> Source:
    """1,797 handwritten digits of 8 x 8 pixels, 0 (paper) to 16 (ink), packaged with scikit-learn."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = (digits.images * (255 / 16)).round().astype(np.uint8)
    items: list[Item] = [(Image.fromarray(g), int(t)) for g, t in zip(grey, digits.target, strict=True)]
    return Source(tuple("0123456789"), {"train": items})


def _torchvision(name: str, root: Path) -> Source:
    """The published training part, and the published test part."""
    from torchvision import datasets

    open_part: dict[str, Any] = {
        "cifar10": lambda part: datasets.CIFAR10(root, train=part == "train", download=True),
        "cifar100": lambda part: datasets.CIFAR100(root, train=part == "train", download=True),
        "stl10": lambda part: datasets.STL10(root, split=part, download=True),
    }
    try:
        train, test = (open_part[name](part) for part in ("train", "test"))
    except (OSError, RuntimeError) as error:
        raise DataError(f"{name} is not in {root} and cannot be downloaded: {one_line_message(error)}") from error
    return Source(tuple(train.classes), {"train": list(train), "test": list(test)})


def _folder(path: Path) -> Source:
    """PATH/train/LABEL/... with PATH/val/LABEL/..., calibration and test or some of them; or PATH/LABEL/... alone."""
    if not path.is_dir():
        raise DataError(f"{path} is not a folder")
    folders = {name: path / name for name in SPLITS if (path / name).is_dir()}
    if not folders:
        classes = _classes(path)
        return Source(tuple(classes), {"train": _items(classes)})
    if "train" not in folders:
        raise DataError(f"{path} has {next(iter(folders))}/, but no train/")
    parts = {name: _classes(folder) for name, folder in folders.items()}
    labels = parts["train"].keys()
    for name, classes in parts.items():
        if differing := sorted(labels ^ classes.keys()):
            sides = (f"{label} (only in {'train' if label in labels else name})" for label in differing)
            raise DataError(f"{path} has class folders that differ between train/ and {name}/: {', '.join(sides)}")
    return Source(tuple(labels), {name: _items(classes) for name, classes in parts.items()})


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
