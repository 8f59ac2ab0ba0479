"""How well a checkpoint's typicality separates the images of another data set from those of its own.

`python -m benchmarks.typicality CHECKPOINT DATA` takes digits, cifar10, cifar100, stl10 or folder:PATH as DATA. It
loads the held-out images of the checkpoint's own data set as its recipe says, and DATA's images preprocessed for the
network. It prints the area under the ROC curve: 1 is perfect separation, 0.5 is chance.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import torch

from benchmarks.lib.errors import exit_on_error
from models.checkpoint import read_checkpoint, restore_model
from training.data.dataset import Dataset, load_dataset
from training.errors import TrainingError
from training.evaluation.calibration import typicality_auroc
from training.evaluation.metrics import compute_logits
from training.recipe import Recipe
from training.recipes import make_recipe

T = TypeVar("T")
BATCH = 64


def iterate_silently(items: Iterable[T], total: int, doing: str) -> Iterable[T]:  # noqa: ARG001
    """Iterates without a progress display."""
    return items


def compare_typicality(checkpoint: Path, data: str, root: Path) -> str:
    """The AUROC as one line. Raises ValueError, TrainingError or OSError."""
    trained = read_checkpoint(checkpoint)
    metadata, network = trained.metadata, restore_model(trained)
    if metadata.calibration is None:
        raise ValueError(f"{checkpoint} has no calibration, so there is no typicality")
    own_recipe = Recipe(**{name: metadata.recipe[name] for name in Recipe.model_fields})
    foreign_recipe = make_recipe(
        data, {"size": metadata.preprocessing.size, "channels": metadata.preprocessing.channels}
    )

    def logits(dataset: Dataset) -> torch.Tensor:
        return compute_logits(network, dataset.splits[dataset.held_out].images, metadata.preprocessing, BATCH)

    own_data = load_dataset(own_recipe, root, iterate_silently)
    if own_data.fingerprint != metadata.dataset["fingerprint"]:
        raise ValueError(f"{own_recipe.data} is not what {checkpoint} was trained and calibrated on")
    own, foreign = logits(own_data), logits(load_dataset(foreign_recipe, root, iterate_silently))
    auroc = typicality_auroc(own, foreign, metadata.calibration)
    return f"AUROC {auroc:.3f}: {len(own)} held-out images of {own_recipe.data} against {len(foreign)} of {data}"


def main() -> None:
    """Prints the line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data")
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="of torchvision's sets (default: data)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with exit_on_error():
        try:
            print(compare_typicality(arguments.checkpoint, arguments.data, arguments.data_root))
        except TrainingError as error:
            raise ValueError(str(error)) from error


if __name__ == "__main__":
    main()
