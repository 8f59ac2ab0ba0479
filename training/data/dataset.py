"""From a data set's name to splits of labelled pixels, ready for the network.

Owns reading the images, their statistics and fingerprints. Every image passes through `models.preprocess`, as it
will when served.
"""

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import torch
from PIL import Image
from torch import Tensor

from models.formats.plain import NotEnoughMemory
from models.image_files import read_pixels
from models.preprocess import Pixels, Preprocessing, preprocess
from training.data.checks import check_faults, check_room, note_missing_classes
from training.data.items import DataError, Item, name_image
from training.data.labels import check_count
from training.data.sources import find_source
from training.data.splits import (
    COMPLETE,
    Duplicates,
    check_classes,
    check_not_empty,
    check_splits,
    complete_splits,
    describe_splits,
    find_duplicates,
)
from training.data.statistics import channel_statistics, fingerprint, identify_image
from training.data.walk import describe_fault
from training.errors import one_line_message
from training.memory import available_bytes
from training.recipe import Recipe

T = TypeVar("T")

# Faults of the machine, not of an image: memory, open files, the disk, a network drive.
FAULTS_OF_THE_MACHINE = {errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE, errno.ENOTCONN}


MAX_NAME_BYTES = 255  # of a file, on most systems


class TrackProgress(Protocol):
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
    """`labels` are the classes' names by index; `splits` has `train` and `val`, and usually `calibration` and `test`.

    The images of `train` are as much larger as the recipe's `scale_jitter`. `unreadable` are the images that
    were left out. `fingerprints` are a SHA-256 of each split's pixels and labels, so two runs with the same
    ones saw the same data. `images` has, for each split, the names of its images by `identify_image`.
    `origins` say where each of SPLITS comes from, and `notes` what else there is to know, a sentence each.
    """

    name: str
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    splits: dict[str, Split]
    unreadable: tuple[Path, ...]
    duplicates: Duplicates
    fingerprints: dict[str, str]
    images: dict[str, dict[str, str]] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def held_out(self) -> str:
        """The split that gives the metrics: `test`, or `val` if there is none."""
        return "test" if "test" in self.splits else "val"

    @property
    def fingerprint(self) -> str:
        """A SHA-256 over those of the splits."""
        return hashlib.sha256(" ".join(f"{n} {f}" for n, f in self.fingerprints.items()).encode()).hexdigest()


class _Read(NamedTuple):
    split: Split
    names: list[str]
    digests: list[bytes]
    unreadable: list[Path]


def load_dataset(
    recipe: Recipe,
    root: Path,
    track: TrackProgress,
    start: Preprocessing | None = None,
    available: Callable[[], int] = available_bytes,
) -> Dataset:
    """The recipe's data set, all of it in memory: N x S x S x C bytes.

    `root` is where torchvision's data sets lie or are downloaded to. Mean and standard deviation are those of
    the training images, or of `start`, whose share of the image in the central crop is kept too. `available` tells how
    many bytes of memory are free. Raises DataError, and TrainingError where the memory is too small; what can be known
    before the images are read is checked before.
    """
    source = find_source(recipe.data, root)
    check_count(source.labels)
    faults = check_faults(source.faults, recipe)
    parts = complete_splits(source.parts, recipe)
    check_splits(source.parts, parts, source.labels)
    sides = {name: recipe.train_side if name == "train" else recipe.size for name in parts}
    check_room(recipe, len(source.labels), {name: len(part) for name, part in parts.items()}, available())
    plain = _choose_preprocessing(recipe, start)
    if recipe.crop == "pad" and not start:  # the bars have the mean colour, so it must be known before
        whole = _Reader(replace(plain, crop="squash"), recipe.skip_unreadable, source.root, track)
        squashed = whole.read("the mean colour of train", parts["train"], recipe.size)
        check_not_empty({"train": len(squashed.split)}, {"train": len(squashed.unreadable)})
        mean, std = channel_statistics(squashed.split.images)
        plain = replace(plain, mean=mean, std=std)
    reader = _Reader(plain, recipe.skip_unreadable, source.root, track)
    read = {name: reader.read(name, parts[name], sides[name]) for name in parts}
    splits = {name: found.split for name, found in read.items()}
    check_not_empty(
        {name: len(split) for name, split in splits.items()}, {name: len(r.unreadable) for name, r in read.items()}
    )
    indices: dict[str, list[int]] = {name: split.labels.tolist() for name, split in splits.items()}
    label_names = {name: [source.labels[i] for i in of_split] for name, of_split in indices.items()}
    for name in COMPLETE:
        check_classes(name, indices[name], source.labels, source.parts)
    if not start and recipe.crop != "pad":
        mean, std = channel_statistics(splits["train"].images)
        plain = replace(plain, mean=mean, std=std)
    return Dataset(
        name=recipe.data,
        labels=source.labels,
        preprocessing=plain,
        splits=splits,
        unreadable=(*faults, *(path for found in read.values() for path in found.unreadable)),
        duplicates=find_duplicates(
            {name: found.names for name, found in read.items()},
            {name: found.digests for name, found in read.items()},
            label_names,
        ),
        fingerprints={name: fingerprint(split.images, split.labels) for name, split in splits.items()},
        images={name: _identify_images(found, label_names[name]) for name, found in read.items()},
        origins=describe_splits(source.parts, parts, recipe),
        notes=(*source.notes, *note_missing_classes(indices, source.labels)),
    )


def check_writable_labels(labels: Sequence[str], folder: Path) -> None:
    """Raises DataError for a label that cannot be the name of a folder in `folder`."""
    for label in labels:
        if "/" in label or label in (".", "..") or len(label.encode()) > MAX_NAME_BYTES:
            raise DataError(f"save_held_out is {folder}, but the label {label!r} cannot be the name of a folder there")


def write_images(split: Split, labels: tuple[str, ...], folder: Path) -> None:
    """Writes the split as folder/LABEL/NUMBER.png, pixel for pixel what the network sees. Raises OSError."""
    for number, (image, label) in enumerate(zip(split.images, split.labels.tolist(), strict=True)):
        path = folder / labels[label] / f"{number:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        to_image(image).save(path)


def to_image(square: Tensor) -> Image.Image:
    """(S, S, C) uint8 as an image, grayscale or RGB."""
    return Image.fromarray(square.squeeze(2).numpy())


def _choose_preprocessing(recipe: Recipe, start: Preprocessing | None) -> Preprocessing:
    """What is done to every image. The weights of `start` want images as they had them.

    Without `start`, mean and standard deviation are still 0 and 1.
    """
    if start is None:
        size, channels = recipe.size, recipe.channels
        zeros, ones = (0.0,) * channels, (1.0,) * channels
        return Preprocessing(size, size, zeros, ones, channels, crop=recipe.crop, color="srgb")
    resize = round(start.resize * recipe.size / start.size)
    return replace(start, size=recipe.size, resize=resize, crop=recipe.crop)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads splits as the network sees them with the preprocessing `plain`; names are relative to `root`."""

    plain: Preprocessing
    skip_unreadable: bool
    root: Path | None
    track: TrackProgress

    def read(self, name: str, items: Sequence[Item], side: int) -> _Read:
        """The items as a split of (side, side) images, in order, without the unreadable ones."""
        stored = replace(self.plain, size=side, resize=round(self.plain.resize * side / self.plain.size))
        images = torch.empty((len(items), side, side, stored.channels), dtype=torch.uint8)
        labels: list[int] = []
        names: list[str] = []
        digests: list[bytes] = []
        unreadable: list[Path] = []
        pool = ThreadPoolExecutor(os.cpu_count())  # Pillow decodes and resizes without the GIL
        try:
            squares = pool.map(lambda item: _square(item[0], stored, self.plain), items)
            for i, ((where, label), square) in enumerate(
                zip(items, self.track(squares, len(items), f"reading {name}"), strict=True)
            ):
                if not isinstance(square, DataError):
                    images[len(labels)] = torch.from_numpy(square[0].copy())
                    labels.append(label)
                    names.append(name_image(where, i, self.root))
                    digests.append(square[1])
                elif self.skip_unreadable and isinstance(where, Path):
                    unreadable.append(where)
                else:
                    raise square
        finally:
            pool.shutdown(cancel_futures=True)
        split = Split(images[: len(labels)], torch.tensor(labels, dtype=torch.int64))
        return _Read(split, names, digests, unreadable)


def _identify_images(read: _Read, labels: Sequence[str]) -> dict[str, str]:
    rows = zip(read.digests, labels, read.names, strict=True)
    return {identify_image(digest, label): name for digest, label, name in rows}


def _square(image: Path | Image.Image, stored: Preprocessing, plain: Preprocessing) -> tuple[Pixels, bytes] | DataError:
    """The pixels to keep, and a digest of those that the network would see of the same image in any split.

    An error is returned for an image that cannot be read, and raised for a machine that cannot read.
    """
    try:
        kept = _pixels(image, stored)
        seen = kept if stored == plain else _pixels(image, plain)
    except MemoryError:
        raise
    except NotEnoughMemory as error:
        raise MemoryError(str(error)) from error
    except Exception as error:  # on broken files Pillow raises a dozen kinds, from OSError to struct.error
        if isinstance(error, OSError) and error.errno in FAULTS_OF_THE_MACHINE:
            raise DataError(f"{image} cannot be read now ({one_line_message(error)})") from error
        why = describe_fault(image, error) if isinstance(image, Path) else one_line_message(error)
        return DataError(f"{image} {why}")
    return kept, hashlib.sha256(seen.tobytes()).digest()


def _pixels(image: Path | Image.Image, preprocessing: Preprocessing) -> Pixels:
    if isinstance(image, Image.Image):
        return preprocess(image, preprocessing)
    return read_pixels(image.read_bytes(), preprocessing)
