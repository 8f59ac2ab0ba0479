"""Which images are trained on, and which are kept for what.

`train` gives the weights, `val` is for choosing among runs, `calibration` gives temperature and tables, and `test` the
figures that are told. Owns taking those that a source lacks from its training part, and finding images that are in two
of them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from training.data.sources import SPLITS, Item
from training.recipe import MIN_CALIBRATION_IMAGES, Recipe


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Images of which another split has the same pixels; an image's name is its file or its number.

    `counts` has, for each split that repeats images of one before it in SPLITS, how many; `examples` are
    a few of them as (split, name, the other's split, the other's name).
    """

    counts: dict[str, int]
    examples: tuple[tuple[str, str, str, str], ...]


def complete_splits(parts: dict[str, list[Item]], recipe: Recipe) -> dict[str, list[Item]]:
    """All of SPLITS: those that a source lacks hold the recipe's share of each class of its training part.

    The seed chooses. Each class keeps an image to train on, then gets one for `val` and one for `test`. A split that
    comes to no image is left out, and a `calibration` that is too small to promise anything stays in `train`.
    """
    wanted = {"val": recipe.val_share, "test": recipe.test_share, "calibration": recipe.calibration_share}
    shares = {name: share for name, share in wanted.items() if name not in parts and share > 0}
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


def find_duplicates(names: dict[str, Sequence[str]], digests: dict[str, Sequence[bytes]], shown: int = 5) -> Duplicates:
    """What each split repeats of those before it, from every image's name and a digest of its pixels."""
    seen: dict[bytes, tuple[str, str]] = {}
    counts: Counter[str] = Counter()
    examples = []
    for split in names:
        own = list(zip(names[split], digests[split], strict=True))
        found = [(split, name, *seen[digest]) for name, digest in own if digest in seen]
        seen = {**{digest: (split, name) for name, digest in own}, **seen}
        counts.update({split: len(found)} if found else {})
        examples += found
    return Duplicates(dict(counts), tuple(examples[:shown]))
