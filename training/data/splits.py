"""Which images are in which split.

`train` gives the weights, `val` is for choosing among runs, `calibration` gives the temperature and the tables, and
`test` gives the metrics. Owns taking splits that a source lacks from its training part, what a split must have, and
finding images that are there twice.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch

from training.data.items import SPLITS, DataError, Item, list_some
from training.recipe import MIN_CALIBRATION_IMAGES, Recipe

COMPLETE = ("train", "val")  # the splits in which every class needs an image


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Images that are there twice; an image's name is its file or its number.

    `counts` has, for each split that repeats images of one before it in SPLITS, how many; `examples` are
    a few of them as (split, name, the other's split, the other's name). `conflicts` counts the images of one split
    that have the pixels of another image with another label in it, and `conflict_examples` are a few of them as
    (split, name, label, the other's name, the other's label).
    """

    counts: dict[str, int]
    examples: tuple[tuple[str, str, str, str], ...]
    conflicts: int = 0
    conflict_examples: tuple[tuple[str, str, str, str, str], ...] = ()


def complete_splits(parts: dict[str, list[Item]], recipe: Recipe) -> dict[str, list[Item]]:
    """All of SPLITS: those that a source lacks hold the recipe's share of each class of its training part.

    The seed decides which. Each class keeps an image to train on, then gets one for `val` and one for `test`. A split
    without images is left out, and a `calibration` that is too small to be used stays in `train`. Raises DataError
    for shares that leave nothing to train on.
    """
    shares = missing_shares(parts, recipe)
    if sum(shares.values()) >= 1:
        raise DataError(
            f"{' + '.join(f'{name}_share' for name in shares)} is {sum(shares.values()):.2g} of each class, but must be"
            " below 1, so that images are left to train on"
        )
    items = parts["train"]
    where = dict.fromkeys(range(len(items)), "train")
    generator = torch.Generator().manual_seed(recipe.seed_for("split"))
    members: dict[int, list[int]] = {}
    for i in torch.randperm(len(items), generator=generator).tolist():
        members.setdefault(items[i][1], []).append(i)
    for of_class in members.values():
        free = iter(of_class[1:])
        for name, share in shares.items():
            least = 0 if name == "calibration" else 1
            for _, i in zip(range(max(least, round(share * len(of_class)))), free, strict=False):
                where[i] = name
    if Counter(where.values())["calibration"] < MIN_CALIBRATION_IMAGES:
        where = {i: "train" if name == "calibration" else name for i, name in where.items()}
    taken = {name: [items[i] for i in where if where[i] == name] for name in SPLITS}
    return {name: part for name in SPLITS if (part := taken[name] or parts.get(name, []))}


def missing_shares(parts: dict[str, list[Item]], recipe: Recipe) -> dict[str, float]:
    """The share of the training part for each split that the source lacks and that the recipe wants."""
    wanted = {"val": recipe.val_share, "test": recipe.test_share, "calibration": recipe.calibration_share}
    return {name: share for name, share in wanted.items() if name not in parts and share > 0}


def check_splits(given: dict[str, list[Item]], parts: dict[str, list[Item]], labels: Sequence[str]) -> None:
    """Raises DataError, which names the split, for one without images, and for a class without images in it.

    `given` are the splits of the source, and `parts` those after `complete_splits`.
    """
    images = {**dict.fromkeys(given, 0), **{name: len(part) for name, part in parts.items()}}
    check_not_empty({name: count for name, count in images.items() if name != "train"})
    for name in COMPLETE:
        check_classes(name, [label for _, label in parts.get(name, [])], labels, given)


def check_not_empty(images: dict[str, int], left_out: dict[str, int] | None = None) -> None:
    """Raises DataError for a split without images. `left_out` has how many were left out, by split."""
    for name, count in images.items():
        if count == 0:
            why = f": all {left_out[name]:,} were left out" if left_out and left_out.get(name) else ""
            raise DataError(f"the split {name} has no image{why}; delete its folder, or put images of each label there")


def check_classes(name: str, indices: Sequence[int], labels: Sequence[str], given: Collection[str]) -> None:
    """Raises DataError if a class has no image in the split `name`, in which every class needs one."""
    found = set(indices)
    if empty := [label for index, label in enumerate(labels) if index not in found]:
        taken = "" if name in given else "; it is taken from train, so a class needs at least two images"
        raise DataError(f"{list_some(empty, 5)}: no image for the split {name}, but every class needs one{taken}")


def describe_splits(given: dict[str, list[Item]], parts: dict[str, list[Item]], recipe: Recipe) -> dict[str, str]:
    """Where each split's images come from; for a split that will be missing, why."""
    shares = missing_shares(given, recipe)
    origins = {}
    for name in SPLITS:
        if name in given:
            taken = [other for other in parts if other not in given]
            origins[name] = f"given, without {' and '.join(taken)}" if name == "train" and taken else "given"
        elif name in parts:
            origins[name] = f"{shares[name]:g} of each class of train, by seed {recipe.seed}"
        else:
            origins[name] = _describe_missing(name, given, shares)
    return origins


def _describe_missing(name: str, given: dict[str, list[Item]], shares: dict[str, float]) -> str:
    if name not in shares:
        return f"none, because {name}_share is 0"
    if name == "calibration":
        share = f"calibration_share {shares[name]:g} of {len(given['train']):,} images"
        return f"none, because {share} is fewer than {MIN_CALIBRATION_IMAGES}; there will be no prediction sets"
    return "none, because no class has an image beside one for train and one for val; val gives the metrics"


def find_duplicates(
    names: Mapping[str, Sequence[str]],
    digests: Mapping[str, Sequence[bytes]],
    labels: Mapping[str, Sequence[str]] | None = None,
    shown: int = 5,
) -> Duplicates:
    """The images of each split that are also in a split before it, or in it with another label.

    For every image there are its name, a digest of its pixels and, if conflicts are to be found, its label.
    """
    seen: dict[bytes, tuple[str, str]] = {}
    counts: Counter[str] = Counter()
    examples = []
    conflicts: list[tuple[str, str, str, str, str]] = []
    for split in names:
        own = list(zip(names[split], digests[split], strict=True))
        found = [(split, name, *seen[digest]) for name, digest in own if digest in seen]
        seen = {**{digest: (split, name) for name, digest in own}, **seen}
        counts.update({split: len(found)} if found else {})
        examples += found
        if labels:
            conflicts += _find_conflicts(split, own, labels[split])
    return Duplicates(dict(counts), tuple(examples[:shown]), len(conflicts), tuple(conflicts[:shown]))


def _find_conflicts(
    split: str, images: Sequence[tuple[str, bytes]], labels: Sequence[str]
) -> list[tuple[str, str, str, str, str]]:
    first: dict[bytes, tuple[str, str]] = {}
    conflicts = []
    for (name, digest), label in zip(images, labels, strict=True):
        other_name, other_label = first.setdefault(digest, (name, label))
        if other_label != label:
            conflicts.append((split, name, label, other_name, other_label))
    return conflicts
