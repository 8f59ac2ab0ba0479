"""The data sets by name: their recipes' defaults, their labels and their images, still unread.

To add a data set, write its loader and add a line to DATA_SETS. A data set of torchvision that has `classes` needs no
loader of its own, but a line in `_load_torchvision`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from training.data.folders import read_folder
from training.data.items import DataError, Item, Source
from training.data.listed import read_csv_file, read_image_folder
from training.errors import one_line_message

FOLDER_DEFAULTS: dict[str, Any] = {"size": 224, "batch_size": 64}  # of images that people have


@dataclass(frozen=True, slots=True)
class DataSet:
    """How a data set is loaded, and where its recipe differs from the fields' own defaults.

    `load` gets the path behind the name, empty if there is none, and the folder of downloads.
    """

    load: Callable[[str, Path], Source]
    defaults: dict[str, Any] = field(default_factory=dict)
    needs_path: bool = False


def parse_data(data: str) -> tuple[str, str]:
    """`NAME` or `NAME:PATH` as (name, path). Raises ValueError, naming the data sets."""
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
    "folder": DataSet(lambda path, _root: read_folder(Path(path)), FOLDER_DEFAULTS, needs_path=True),
    "csv": DataSet(lambda path, _root: read_csv_file(Path(path)), FOLDER_DEFAULTS, needs_path=True),
    "imagefolder": DataSet(lambda path, _root: read_image_folder(Path(path)), FOLDER_DEFAULTS, needs_path=True),
}
