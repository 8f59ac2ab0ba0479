"""From a data set's name to splits of labelled pixels, ready for the network.

Owns reading the images, their statistics and fingerprints. Every image passes through `models.preprocess`, as it
will when served.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import torch
from PIL import Image
from torch import Tensor

from models.documents import is_unicode_text
from models.formats.plain import ImageFault
from models.image_files import read_pixels
from models.preprocess import Pixels, Preprocessing, preprocess
from training.data.sources import DataError, Item, find_source
from training.data.splits import Duplicates, complete_splits, find_duplicates
from training.errors import one_line_message
from training.recipe import Recipe

T = TypeVar("T")


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

    The images of `train` are as much larger as the recipe's `scale_jitter`. `unreadable` names the images that
    were left out. `fingerprints` are a SHA-256 of each split's pixels and labels, so two runs with the same
    ones saw the same data.
    """

    name: str
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    splits: dict[str, Split]
    unreadable: tuple[Path, ...]
    duplicates: Duplicates
    fingerprints: dict[str, str]

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


def load_dataset(recipe: Recipe, root: Path, track: TrackProgress, start: Preprocessing | None = None) -> Dataset:
    """The recipe's data set, all of it in memory: N x S x S x C bytes.

    `root` is where torchvision's data sets lie or are downloaded to. Mean and standard deviation are those of
    the training images, or of `start`, whose share of the image in the central crop is kept too. Raises DataError.
    """
    source = find_source(recipe.data, root)
    _check_labels(source.labels)
    parts = complete_splits(source.parts, recipe)
    sides = {name: recipe.train_side if name == "train" else recipe.size for name in parts}
    _check_memory(sum(len(parts[name]) * sides[name] ** 2 for name in parts) * recipe.channels, recipe.size)
    plain = _choose_preprocessing(recipe, start)
    if recipe.crop == "pad" and not start:  # the bars have the mean colour, so it must be known before
        whole, doing = replace(plain, crop="squash"), "the mean colour of train"
        squashed = _read(parts["train"], whole, recipe.size, recipe.skip_unreadable, track, doing).split
        _check_counts(squashed.labels, source.labels, "train")
        mean, std = channel_statistics(squashed.images)
        plain = replace(plain, mean=mean, std=std)
    read = {name: _read(parts[name], plain, sides[name], recipe.skip_unreadable, track, name) for name in parts}
    splits = {name: found.split for name, found in read.items()}
    for name in splits:
        _check_counts(splits[name].labels, source.labels, name)
    if not start and recipe.crop != "pad":
        mean, std = channel_statistics(splits["train"].images)
        plain = replace(plain, mean=mean, std=std)
    return Dataset(
        name=recipe.data,
        labels=source.labels,
        preprocessing=plain,
        splits=splits,
        unreadable=tuple(path for found in read.values() for path in found.unreadable),
        duplicates=find_duplicates({n: r.names for n, r in read.items()}, {n: r.digests for n, r in read.items()}),
        fingerprints={name: _fingerprint(split) for name, split in splits.items()},
    )


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


def _read(items: Sequence[Item], plain: Preprocessing, side: int, skip: bool, track: TrackProgress, name: str) -> _Read:
    """The items as a split of (side, side) images, in order, without the unreadable ones."""
    stored = replace(plain, size=side, resize=round(plain.resize * side / plain.size))
    images = torch.empty((len(items), side, side, plain.channels), dtype=torch.uint8)
    labels: list[int] = []
    names: list[str] = []
    digests: list[bytes] = []
    unreadable: list[Path] = []
    pool = ThreadPoolExecutor(os.cpu_count())  # Pillow decodes and resizes without the GIL
    try:
        squares = pool.map(lambda item: _square(item[0], stored, plain), items)
        for i, ((where, label), square) in enumerate(
            zip(items, track(squares, len(items), f"reading {name}"), strict=True)
        ):
            if not isinstance(square, DataError):
                images[len(labels)] = torch.from_numpy(square[0].copy())
                labels.append(label)
                names.append(str(where) if isinstance(where, Path) else f"image {i}")
                digests.append(square[1])
            elif skip and isinstance(where, Path):
                unreadable.append(where)
            else:
                raise square
    finally:
        pool.shutdown(cancel_futures=True)
    split = Split(images[: len(labels)], torch.tensor(labels, dtype=torch.int64))
    return _Read(split, names, digests, unreadable)


def _square(image: Path | Image.Image, stored: Preprocessing, plain: Preprocessing) -> tuple[Pixels, bytes] | DataError:
    """The pixels to keep, and a digest of those that the network would see of the same image in any split."""
    try:
        kept = _pixels(image, stored)
        seen = kept if stored == plain else _pixels(image, plain)
    except (OSError, ImageFault) as error:
        return DataError(f"{image} cannot be read as an image ({one_line_message(error)})")
    return kept, hashlib.sha256(seen.tobytes()).digest()


def _pixels(image: Path | Image.Image, preprocessing: Preprocessing) -> Pixels:
    if isinstance(image, Image.Image):
        return preprocess(image, preprocessing)
    return read_pixels(image.read_bytes(), preprocessing)


def _check_labels(labels: tuple[str, ...]) -> None:
    if bad := [label for label in labels if not is_unicode_text(label)]:
        raise DataError(f"the folder {bad[0]!r} has a name that is not UTF-8, but a label must be Unicode text")
    if len(labels) < 2:
        raise DataError(f"{labels[0]} is the only class, but a classifier needs at least two")


def _check_counts(indices: Tensor, labels: tuple[str, ...], name: str) -> None:
    if name not in ("train", "val"):  # the rest may be small
        return
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


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of (N, S, S, C) uint8 images per channel, on a scale of 0 to 1."""
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in images.unbind(3):  # from a histogram: no copy of the images in floats
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        mean = (share * values).sum()
        means.append(round(float(mean), 4))
        stds.append(max(round(float((share * (values - mean) ** 2).sum().sqrt()), 4), 1e-4))
    return tuple(means), tuple(stds)


def _fingerprint(split: Split) -> str:
    digest = hashlib.sha256(f"{tuple(split.images.shape)}".encode())
    digest.update(split.images.numpy().data)
    digest.update(split.labels.numpy().data)
    return digest.hexdigest()
