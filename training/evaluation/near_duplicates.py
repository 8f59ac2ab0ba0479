"""Images that show nearly the same picture, within a split and across splits.

Owns the perceptual hash, the comparison of two pictures, and which pairs are kept. Of 1,000 images of CIFAR-10, 99 %
or more have a close enough hash after JPEG of quality 40, a change of brightness, or resizing to 24 x 24 and back.
After a crop of one pixel at each side it is 64 %, after a shift by one pixel 53 %, after a crop of two pixels 7 %.
Mirrored and rotated pictures are not found.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training.data.dataset import Split
from training.evaluation.hash_search import Hashes, Indices, find_close_pairs

# Of 20,000 images of CIFAR-10, 158 pairs have hashes that differ in at most 7 bits. All pairs with a correlation above
# 0.9 were seen to be the same picture. Below 0.85 most were different ones.
MAX_DISTANCE = 7  # bits of 64
MIN_CORRELATION = 0.9
MIN_CONTRAST = 2.0  # grey levels of 256; the least of 20,000 images of CIFAR-10 is 4.8
THUMBNAIL = 16  # pixels a side
MAX_COMPARISONS = 40  # of pictures, for each image on average; bounds the time where all images look alike
BATCH_BYTES = 2**24


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """An image and one before it that shows nearly the same picture.

    An image is named by its split and its index there. `correlation` is that of the two thumbnails, at most 1.
    """

    split: str
    index: int
    label: int
    other_split: str
    other_index: int
    other_label: int
    correlation: float


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """For each image, and each split that has one like it before it, one pair.

    Pairs with different labels come first, then those across splits, then the most alike. `images` is the number of
    images with such a pair, and `flat` that of the images of nearly one colour, which were not compared. If not
    `complete`, so many images look alike that the search was ended early.
    """

    pairs: tuple[NearDuplicate, ...]
    flat: int
    complete: bool = True

    @property
    def images(self) -> int:
        return len({(pair.split, pair.index) for pair in self.pairs})

    def leaked_from_train(self, split: str) -> list[int]:
        """The indices of the images of this split that are near-duplicates of training images."""
        return [pair.index for pair in self.pairs if (pair.split, pair.other_split) == (split, "train")]


def find_near_duplicates(splits: Mapping[str, Split]) -> NearDuplicates:
    """The near-duplicates among all images, in the order of the splits; `train` comes first.

    Time and memory grow with the number of images, not with its square.
    """
    names = list(splits)
    thumbnails = torch.cat([make_thumbnails(split.images) for split in splits.values()])
    split_of = np.repeat(np.arange(len(names)), [len(split) for split in splits.values()])
    first = np.concatenate(([0], np.cumsum([len(split) for split in splits.values()])))
    labels = torch.cat([split.labels.cpu() for split in splits.values()]).tolist()
    hashes, contrasts = hash_thumbnails(thumbnails)
    rows = np.flatnonzero(contrasts >= MIN_CONTRAST)
    found, complete = _compare_candidates(hashes, rows, thumbnails, split_of, len(names))
    pairs = []
    for row, other, correlation in found:
        own, before = split_of[row], split_of[other]
        image = (names[own], row - int(first[own]), labels[row])
        pairs.append(NearDuplicate(*image, names[before], other - int(first[before]), labels[other], correlation))
    pairs.sort(key=lambda pair: (pair.label == pair.other_label, pair.split == pair.other_split, -pair.correlation))
    return NearDuplicates(tuple(pairs), len(hashes) - len(rows), complete)


def make_thumbnails(images: Tensor) -> Tensor:
    """(N, S, S, C) uint8 images as (N, C, 16, 16) uint8, each pixel the mean of its area."""
    batch = max(1, BATCH_BYTES // math.prod(images.shape[1:]))
    made = [
        F.adaptive_avg_pool2d(part.permute(0, 3, 1, 2).float(), THUMBNAIL).round().to(torch.uint8).cpu()
        for part in torch.split(images, batch)
    ]
    return torch.cat(made)


def hash_thumbnails(thumbnails: Tensor) -> tuple[Hashes, Indices]:
    """(N,) 64-bit hashes of (N, C, 16, 16) uint8 thumbnails, and the standard deviation of their grey values.

    A bit is the sign of a coefficient of the two-dimensional cosine transform of the grey values (as in pHash, Zauner
    2010, "Implementation and Benchmarking of Perceptual Image Hash Functions"). It takes the eight lowest frequencies
    in each direction. The place of the mean brightness, which is always positive, has the next vertical frequency.
    """
    steps = (2 * torch.arange(THUMBNAIL) + 1) * torch.pi / (2 * THUMBNAIL)
    waves = torch.cos(torch.arange(9)[:, None] * steps)  # (9, 16)
    hashes, contrasts = [], []
    for part in torch.split(thumbnails, 4_096):
        grey = part.float().mean(dim=1)  # (n, 16, 16)
        grey = grey - grey.mean(dim=(1, 2), keepdim=True)
        coefficients = waves @ grey @ waves[:8].T  # (n, 9, 8)
        coefficients[:, 0, 0] = coefficients[:, 8, 0]
        bits = (coefficients[:, :8] > 0).flatten(1).numpy()
        hashes.append(np.packbits(bits, axis=1).view(np.uint64)[:, 0])
        contrasts.append(grey.flatten(1).std(dim=1, correction=0).numpy())
    return np.concatenate(hashes), np.concatenate(contrasts)


def correlate(one: Tensor, other: Tensor) -> Tensor:
    """(P,) correlations of (P, C, H, W) uint8 thumbnails, all channels together, each less its own mean.

    So neither brightness nor a tint counts, but another colour of an object does.
    """
    a, b = ((of.float() - of.float().mean(dim=(2, 3), keepdim=True)).flatten(1) for of in (one, other))
    return F.cosine_similarity(a, b)


def _compare_candidates(
    hashes: Hashes, rows: Indices, thumbnails: Tensor, split_of: Indices, splits: int
) -> tuple[list[tuple[int, int, float]], bool]:
    """For each image and split, the first image found before it that looks like it, and whether all were compared."""
    partners = np.full((len(hashes), splits), -1)
    found: list[tuple[int, int, float]] = []
    left = MAX_COMPARISONS * len(hashes)
    for lower, upper in find_close_pairs(hashes[rows], MAX_DISTANCE):
        other, row = rows[lower], rows[upper]
        open_ = np.flatnonzero(partners[row, split_of[other]] < 0)  # one image like it is enough
        for chosen in np.array_split(open_, len(open_) // 4_096 + 1):
            if len(chosen) > left:
                return found, False
            left -= len(chosen)
            correlations = correlate(thumbnails[row[chosen]], thumbnails[other[chosen]]).numpy()
            alike = correlations >= MIN_CORRELATION
            for i, j, correlation in zip(row[chosen][alike], other[chosen][alike], correlations[alike], strict=True):
                if partners[i, split_of[j]] < 0:
                    partners[i, split_of[j]] = j
                    found.append((int(i), int(j), min(float(correlation), 1.0)))
    return found, True
