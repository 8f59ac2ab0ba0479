"""Named recipes: which settings go well together, for a data set, for a purpose, and from a TOML file.

Settings are taken in this order, each over those before: the fields' defaults, the data set's, the named recipe's or
the file's, those of the starting weights, and those given on the command line.
"""

import tomllib
from pathlib import Path
from typing import Any

from training.data.sources import DATA_SETS, parse_data
from training.errors import one_line_message
from training.recipe import Recipe

# A large learning rate would destroy weights that are trained already.
FINE_TUNING: dict[str, Any] = {"epochs": 10, "lr": 0.01}

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

# `fast` is the fields' and the data set's defaults. `baseline` is a tutorial's training: its seed, head, determinism
# and constant learning rate are the tutorial's, the rest is ours. At ten times this learning rate its head of linear
# layers did not learn in four epochs. `paper` is section 3.1 of arXiv 1409.1556. There the scale lies in 256..512 for a
# crop of 224; here it starts at the crop's own size. The random shift of colours is left out.
RECIPES: dict[str, dict[str, Any]] = {
    "fast": {},
    "baseline": {
        **PLAIN,
        "seed": 2022,
        "head": "linear",
        "batch_size": 128,
        "lr": 0.001,
        "schedule": "constant",
        "flip": "random",
    },
    "paper": {
        **PLAIN,
        "architecture": "vgg16",
        "head": "paper",
        "epochs": 74,
        "batch_size": 256,
        "lr": 0.01,
        "schedule": "plateau",
        "flip": "random",
        "scale_jitter": 512 / 224,
    },
}


def make_recipe(data: str, given: dict[str, Any], name: str = "fast", start: dict[str, Any] | None = None) -> Recipe:
    """The recipe `name`, or that of the TOML file `name`, for a data set, with the settings in `given`.

    `start` has the settings that follow from the weights that the run starts from. Raises ValueError, also for a
    setting that does not exist.
    """
    fitting = {**DATA_SETS[parse_data(data)[0]].defaults, **(FINE_TUNING if start else {})}
    chosen = {**fitting, **read_named_recipe(name), **(start or {}), **given}
    if chosen.get("architecture") == "alexnet" and "head" not in given:
        chosen["head"] = "paper"  # the only head that AlexNet has
    if "data" in chosen:
        raise ValueError("data is not a setting of a recipe; give it as --data")
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
