"""Recipes as data: which settings go well together, for a data set, for a purpose, and from a TOML file.

Owns the order in which they are put over each other. Knows nothing of what a setting does.
"""

import tomllib
from pathlib import Path
from typing import Any

from training.recipe import Recipe, dataset_kind, one_line_message, recipe_fields

# What differs from the fields' own defaults. The packaged digits are small, blurred, white on black and
# fill their frame; those that people send are none of this. Black-on-white digits with a margin of 15 %
# come out right in 99 % of the cases with shrink, contrast and invert, in 15 % without. No digit but 0 and
# 8 is itself in a mirror. So small a network gains a quarter from a second thread, and with it an epoch
# took two to ten times as long where another process held the cores.
DEFAULTS: dict[str, dict[str, Any]] = {
    "digits": {
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
    "cifar10": {},
    "cifar100": {},
    "stl10": {"size": 96},
    "folder": {"size": 224, "batch_size": 64},
}

# Weights that know images already are not to be lost to a large rate.
FINE_TUNING: dict[str, Any] = {"epochs": 10, "rate": 0.01}

PLAIN: dict[str, Any] = {
    "nesterov": False,
    "label_smoothing": 0.0,
    "ema_decay": 0.0,
    "clip": 1e6,
    "shift": 0.0,
    "shrink": 0.0,
    "contrast": 1.0,
    "invert": False,
    "precision": "float32",
}

# `fast` is what the fields and the data set say. `baseline` is the yardstick: a popular post's training, whose rate
# never falls; at ten times this one its head of linear layers did not learn in four epochs. `paper` is section
# 3.1 of arXiv 1409.1556; there the scale lies in 256..512 for a crop of 224, here it starts at the crop's own
# size; the random shift of colours is left out.
RECIPES: dict[str, dict[str, Any]] = {
    "fast": {},
    "baseline": {
        **PLAIN,
        "seed": 2022,
        "head": "linear",
        "batch_size": 128,
        "rate": 0.001,
        "schedule": "constant",
        "flip": "random",
    },
    "paper": {
        **PLAIN,
        "architecture": "vgg16",
        "head": "paper",
        "epochs": 74,
        "batch_size": 256,
        "rate": 0.01,
        "schedule": "plateau",
        "flip": "random",
        "scale_jitter": 512 / 224,
    },
}


def make_recipe(data: str, given: dict[str, Any], name: str = "fast", start: dict[str, Any] | None = None) -> Recipe:
    """The recipe `name` for a data set, or that of the TOML file `name`, with what is `given` put over it.

    `start` is what follows from the checkpoint that the run starts from. Raises ValueError, also for a
    setting that does not exist.
    """
    fitting = {**DEFAULTS[dataset_kind(data)], **(FINE_TUNING if start else {})}
    chosen = {**fitting, **read_named_recipe(name), **(start or {}), **given}
    if chosen.get("architecture") == "alexnet" and "head" not in given:
        chosen["head"] = "paper"  # the only one that it has
    _check_names(chosen)
    return Recipe(data=data, **chosen)


def read_named_recipe(name: str) -> dict[str, Any]:
    """The settings of one of RECIPES, or of a TOML file, in which `recipe` may name one to start from.

    Raises ValueError.
    """
    if name in RECIPES:
        return RECIPES[name]
    if not name.endswith(".toml"):
        raise ValueError(f"recipe is {name!r}, but must be one of {', '.join(RECIPES)}, or FILE.toml")
    try:
        found = tomllib.loads(Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"recipe is {name!r}, which cannot be read: {one_line_message(error)}") from error
    base = found.pop("recipe", "fast")
    if base not in RECIPES:
        raise ValueError(f"recipe in {name} is {base!r}, but must be one of {', '.join(RECIPES)}")
    return {**RECIPES[base], **found}


def _check_names(chosen: dict[str, Any]) -> None:
    known = {setting.name for setting in recipe_fields()}
    if unknown := sorted(chosen.keys() - known):
        raise ValueError(f"{unknown[0]} is no setting of a recipe; there are {', '.join(sorted(known))}")
