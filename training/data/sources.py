"""The data sets by name: their recipes' defaults, their labels and their images, still unread.

To add a data set, write its loader and add a line to DATA_SETS. A data set of torchvision that has `classes` needs no
loader of its own, but a line in `_load_torchvision`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from training.errors import TrainingError, one_line_message

SPLITS = ("train", "val", "calibration", "test")

Item = tuple[Path | Image.Image, int]  # an image, opened or not, and its label's index


class DataError(TrainingError):
    """Data that cannot be trained on."""


@dataclass(frozen=True, slots=True)
class Source:
    """The classes' names by index, and the images of `train` and of those other SPLITS that the source has."""

    labels: tuple[str, ...]
    parts: dict[str, list[Item]]


@dataclass(frozen=True, slots=True)
class DataSet:
    """How a data set is loaded, and where its recipe differs from the fields' own defaults.

    `load` gets the path behind the name, empty if there is none, and the folder of downloads.
    """

    load: Callable[[str, Path], Source]
    defaults: dict[str, Any] = field(default_factory=dict)
    needs_path: bool = False


def parse_data(data: str) -> tuple[str, str]:
    """`NAME` or `folder:PATH` as (name, path). Raises ValueError, naming the data sets."""
    name, _, path = data.partition(":")
    if name not in DATA_SETS or DATA_SETS[name].needs_path != bool(path):
        raise ValueError(f"data is {data!r}, but must be one of {list_data_sets()}")
    return name, path


def list_data_sets() -> str:
    """The values that `--data` takes, with commas between."""
    return ", ".join(f"{name}:PATH" if data_set.needs_path else name for name, data_set in DATA_SETS.items())


def find_source(data: str, root: Path) -> Source:
    """The labels and images of a data set. torchvision's lie in `root` or are downloaded there. Raises DataError."""
    name, path = parse_data(data)
    return DATA_SETS[name].load(path, root)


def _load_digits(_path: str, _root: Path) -> Source:
    """1,797 handwritten digits of 8 x 8 pixels, 0 (paper) to 16 (ink), packaged with scikit-learn."""
    # Imported here because they take a second, and --help must be immediate.
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = (digits.images * (255 / 16)).round().astype(np.uint8)
    items: list[Item] = [(Image.fromarray(g), int(t)) for g, t in zip(grey, digits.target, strict=True)]
    return Source(tuple("0123456789"), {"train": items})


def _load_torchvision(name: str, _path: str, root: Path) -> Source:
    """The published training part, and the published test part."""
    from torchvision import datasets  # here because it loads torch, and --help must be immediate

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


def _load_folder(path: str, _root: Path) -> Source:
    return read_folder(Path(path))


def read_folder(path: Path) -> Source:
    """PATH/LABEL/..., or PATH/train/LABEL/... and some of PATH/val, PATH/calibration, PATH/test. Raises DataError."""
    if not path.is_dir():
        raise DataError(f"{path} is not a folder")
    folders = {name: path / name for name in SPLITS if (path / name).is_dir()}
    if not folders:
        classes = find_class_folders(path)
        return Source(tuple(classes), {"train": _list_items(classes)})
    if "train" not in folders:
        raise DataError(f"{path} has {next(iter(folders))}/, but no train/")
    parts = {name: find_class_folders(folder) for name, folder in folders.items()}
    labels = parts["train"].keys()
    for name, classes in parts.items():
        if differing := sorted(labels ^ classes.keys()):
            sides = (f"{label} (only in {'train' if label in labels else name})" for label in differing)
            raise DataError(f"{path} has class folders that differ between train/ and {name}/: {', '.join(sides)}")
    return Source(tuple(labels), {name: _list_items(classes) for name, classes in parts.items()})


def find_class_folders(folder: Path) -> dict[str, list[Path]]:
    """The files of each class folder, at any depth, by class name. Hidden files and folders are left out."""
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise DataError(f"{folder} has no class folders: each label needs a folder of its images")
    return {name: sorted(_visible_files(folder / name)) for name in names}


def _visible_files(folder: Path) -> Iterable[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def _list_items(classes: dict[str, list[Path]]) -> list[Item]:
    return [(path, label) for label, paths in enumerate(classes.values()) for path in paths]


DATA_SETS: dict[str, DataSet] = {
    # The packaged digits are small, blurred, white on black, and fill their frame. Digits that people send are none of
    # this. Of black-on-white digits with a margin of 15 %, 99 % are right with shrink, contrast and invert, and 15 %
    # without. A mirrored digit is another shape, except 0 and 8. A second thread makes so small a network a quarter
    # faster, but an epoch took two to ten times as long where another process used the cores.
    "digits": DataSet(
        _load_digits,
        {
            "test_share": 0.2,
            "architecture": "vgg11_bn",
            "channels": 1,
            "width": 0.25,
            "epochs": 40,
            "batch_size": 64,
            "shift": 0.0625,
            "shrink": 0.5,
            "border": "black",
            "flip": "none",
            "contrast": 4.0,
            "invert": True,
            "threads": 1,
        },
    ),
    "cifar10": DataSet(partial(_load_torchvision, "cifar10")),
    "cifar100": DataSet(partial(_load_torchvision, "cifar100")),
    "stl10": DataSet(partial(_load_torchvision, "stl10"), {"size": 96}),
    "folder": DataSet(_load_folder, {"size": 224, "batch_size": 64}, needs_path=True),
}
