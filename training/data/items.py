"""What every data set is before its images are read: labels, and files or images with their label's index."""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from training.errors import TrainingError

SPLITS = ("train", "val", "calibration", "test")

Item = tuple[Path | Image.Image, int]  # an image, opened or not, and its label's index

# The usual names of splits, in lower case. They are those of torchvision, Keras, fastai and Hugging Face.
SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "calibration": ("calibration", "calib", "calibrate"),
    "test": ("test", "testing", "eval", "evaluation"),
}


class DataError(TrainingError):
    """Data that cannot be trained on."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A file that stands where an image is expected, and why it is none: `is no image of a format that is read`."""

    path: Path
    why: str


@dataclass(frozen=True, slots=True)
class Source:
    """The classes' names by index, and the images of `train` and of those other SPLITS that the source has.

    `root` is the folder that the images' names are relative to. `faults` are files that cannot be images: they end
    the run, or are left out and counted if the recipe says so. `notes` say, a sentence each, what was passed over.
    """

    labels: tuple[str, ...]
    parts: dict[str, list[Item]]
    root: Path | None = None
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()


def find_split(name: str) -> str | None:
    """Which of SPLITS a folder's or a table's word means, in any case; None for any other word."""
    word = name.casefold()
    return next((split for split, names in SPLIT_NAMES.items() if word in names), None)


def expand_user(path: Path) -> Path:
    """The path with `~` or `~NAME` at its start replaced by the home folder. Raises DataError where there is none."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise DataError(f"{path} begins with a home folder that is not known") from error


def list_split_names() -> str:
    """The words that mean a split, with commas between."""
    return ", ".join(name for names in SPLIT_NAMES.values() for name in names)


def list_some(names: list[str] | tuple[str, ...], shown: int = 3) -> str:
    """A few of the names, and how many there are beside them."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more:,} more" if more > 0 else "")


def name_image(image: Path | Image.Image, number: int, root: Path | None) -> str:
    """The image's name in messages and in the checkpoint: relative to its data set, and Unicode text.

    A folder of the machine has no place in a checkpoint. Bytes that are not UTF-8 are escaped, because a checkpoint
    with them could not be read.
    """
    if not isinstance(image, Path):
        return f"image {number}"
    inside = root is not None and image.is_relative_to(root)
    name = str(image.relative_to(root)) if inside and root else image.name
    return name.encode("utf-8", "backslashreplace").decode()
