"""How well a checkpoint's typicality tells another data set's images from its own.

`python -m benchmarks.typicality CHECKPOINT DATA`, where DATA is digits, cifar10, cifar100, stl10 or folder:PATH,
loads the checkpoint's own held-out images as its recipe says, and DATA's as the network would see them, and prints
the area under the ROC curve: 1 tells them apart without fault, 0.5 is what a coin does.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import torch

from models.checkpoint import read_checkpoint, restore_model
from training.data.dataset import Dataset, load_dataset
from training.errors import TrainingError
from training.evaluation.calibration import typicality_auroc
from training.evaluation.metrics import compute_logits
from training.recipe import Recipe
from training.recipes import make_recipe

T = TypeVar("T")
BATCH = 64


def untracked(items: Iterable[T], total: int, doing: str) -> Iterable[T]:  # noqa: ARG001
    """Reads without a word."""
    return items


def report(checkpoint: Path, data: str, root: Path) -> str:
    """One line. Raises ValueError, TrainingError or OSError."""
    found = read_checkpoint(checkpoint)
    d, network = found.description, restore_model(found)
    if d.calibration is None:
        raise ValueError(f"{checkpoint} has no calibration, so there is no typicality")
    own_recipe = Recipe(**{name: d.recipe[name] for name in Recipe.model_fields})
    foreign_recipe = make_recipe(data, {"size": d.preprocessing.size, "channels": d.preprocessing.channels})

    def logits(dataset: Dataset) -> torch.Tensor:
        return compute_logits(network, dataset.splits[dataset.held_out].images, d.preprocessing, BATCH)

    own_data = load_dataset(own_recipe, root, untracked)
    if own_data.fingerprint != d.dataset["fingerprint"]:
        raise ValueError(f"{own_recipe.data} is not what {checkpoint} was trained and calibrated on")
    own, foreign = logits(own_data), logits(load_dataset(foreign_recipe, root, untracked))
    auroc = typicality_auroc(own, foreign, d.calibration)
    return f"AUROC {auroc:.3f}: {len(own)} held-out images of {own_recipe.data} against {len(foreign)} of {data}"


def main() -> None:
    """Prints the line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data")
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="of torchvision's sets (default: data)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try:
        print(report(arguments.checkpoint, arguments.data, arguments.data_root))
    except (ValueError, TrainingError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
