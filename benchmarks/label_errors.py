"""How many labels that were changed on purpose are among the likely wrong labels.

`python -m benchmarks.label_errors FOLDER` takes FOLDER/LABEL/*, for example 50,000 images of CIFAR-10. It draws 5,000
of them by seed, gives 200 of these another label, and trains a network for each of four folds on the other folds
(cross-fitting). So every image gets its probabilities from a network that has not seen it. It prints the precision and
the recall of the likely wrong labels, and the precision among the first few of the ranking. The data set's own wrong
labels count as false alarms.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.lib.errors import exit_on_error
from benchmarks.lib.report import describe_machine, format_table
from models.image_files import read_pixels
from models.preprocess import Preprocessing
from models.probabilities import softmax
from training.data.dataset import Dataset, Split
from training.data.folders import read_folder
from training.data.splits import Duplicates
from training.data.statistics import channel_statistics
from training.device import configure_torch, resolve_precision
from training.distributed import Processes
from training.errors import TrainingError
from training.evaluation.calibration import fit_temperature
from training.evaluation.label_issues import LabelIssue, find_label_issues
from training.evaluation.metrics import compute_logits
from training.loop import Record, Step, train
from training.recipe import Recipe
from training.recipes import make_recipe

SIZE = 32
RANKS = (20, 50, 100, 200)


@dataclass(frozen=True, slots=True, eq=False)
class FlippedData:
    """Images with some labels that were changed on purpose: `flipped` is (N,) bool, `true` the labels before."""

    names: tuple[str, ...]
    split: Split
    true: Tensor
    flipped: Tensor


class PrintEpochs:
    """Prints the last accuracies of each fold while the benchmark runs."""

    def step(self, step: Step) -> None:
        """Says nothing."""

    def epoch(self, record: Record) -> None:
        """Prints the epoch's accuracies, measured against the labels with the changes."""
        accuracies = f"train {record['train_accuracy']:.3f}, held out {record['val_accuracy']:.3f}"
        print(f"epoch {record['epoch']:.0f}: {accuracies}, {record['seconds']:.0f} s", flush=True)


def load_flipped(folder: Path, images: int, flips: int, seed: int) -> FlippedData:
    """Draws the images and changes labels, each into one of the others with equal chances.

    Raises ValueError if the folder has too few images, and TrainingError or OSError if it cannot be read.
    """
    source = read_folder(folder)
    items = source.parts["train"]
    if len(items) < images:
        raise ValueError(f"images is {images}, but must be at most {len(items)}, the images below {folder}")
    generator = torch.Generator().manual_seed(seed)
    chosen = [items[i] for i in torch.randperm(len(items), generator=generator)[:images].tolist()]
    plain = Preprocessing(SIZE, SIZE, (0.0,) * 3, (1.0,) * 3)
    pixels = [torch.from_numpy(read_pixels(Path(path).read_bytes(), plain).copy()) for path, _ in chosen]
    true = torch.tensor([label for _, label in chosen])
    flipped = torch.zeros(images, dtype=torch.bool)
    flipped[torch.randperm(images, generator=generator)[:flips]] = True
    others = torch.randint(1, len(source.labels), (images,), generator=generator)
    labels = torch.where(flipped, (true + others) % len(source.labels), true)
    return FlippedData(source.labels, Split(torch.stack(pixels), labels), true, flipped)


def cross_fit(data: FlippedData, recipe: Recipe, folds: int) -> Tensor:
    """(N, K) logits: each row is from a network that was trained on the folds without that image."""
    split, logits = data.split, torch.empty(len(data.split), len(data.names))
    mean, std = channel_statistics(split.images)
    preprocessing = Preprocessing(SIZE, SIZE, mean, std)
    fold_of = torch.arange(len(split)) % folds  # the images are in random order
    for fold in range(folds):
        own = fold_of == fold
        parts = {"train": ~own, "val": own}
        dataset = Dataset(
            name=recipe.data,
            labels=data.names,
            preprocessing=preprocessing,
            splits={name: Split(split.images[rows], split.labels[rows]) for name, rows in parts.items()},
            unreadable=(),
            duplicates=Duplicates({}, ()),
            fingerprints={},
        )
        print(f"fold {fold + 1} of {folds}", flush=True)
        trained = train(dataset, recipe, Processes(0, 1, torch.device("cpu")), PrintEpochs())
        logits[own] = compute_logits(trained.model, dataset.splits["val"].images, preprocessing, recipe.batch_size)
    return logits


def describe_detection(issues: Sequence[LabelIssue], flipped: Tensor) -> str:
    """Precision and recall of all likely wrong labels and of the first few, as a table. `flipped` is (N,) bool."""
    hits = [bool(flipped[issue.index]) for issue in issues]
    total = int(flipped.sum())
    rows = []
    for count in (*(rank for rank in RANKS if rank < len(hits)), len(hits)):
        found = sum(hits[:count])
        precision = f"{found / count:.3f}" if count else "-"
        rows.append(
            (f"first {count}" if count < len(hits) else f"all {count}", found, precision, f"{found / total:.3f}")
        )
    return format_table(("likely wrong labels", "changed ones among them", "precision", "recall"), *rows)


def measure(arguments: argparse.Namespace) -> str:
    """The report of a whole run. Raises ValueError, TrainingError or OSError."""
    if not 1 <= arguments.flips <= arguments.images:
        raise ValueError(f"flips is {arguments.flips}, but must lie in 1..{arguments.images}, the number of images")
    if not 2 <= arguments.folds <= arguments.images // 2:
        raise ValueError(f"folds is {arguments.folds}, but must lie in 2..{arguments.images // 2}")
    settings = {
        "size": SIZE,
        "architecture": "vgg11_bn",
        "width": arguments.width,
        "epochs": arguments.epochs,
        "batch_size": 64,
        "seed": arguments.seed,
        "threads": arguments.threads,
    }
    recipe = resolve_precision(make_recipe(f"folder:{arguments.folder}", settings), torch.device("cpu"))
    configure_torch(recipe)
    started = time.perf_counter()
    data = load_flipped(arguments.folder, arguments.images, arguments.flips, arguments.seed)
    logits = cross_fit(data, recipe, arguments.folds)
    labels = data.split.labels
    issues = find_label_issues(softmax(logits, fit_temperature(logits, labels)), labels)
    right = float((logits.argmax(dim=1) == data.true).double().mean())
    return "\n".join(
        (
            f"{len(labels)} images, {arguments.flips} labels changed, {arguments.folds} folds of {arguments.epochs} "
            f"epochs, vgg11_bn of width {arguments.width:g}, {time.perf_counter() - started:.0f} s",
            f"held-out accuracy against the true labels: {right:.3f}",
            describe_detection(issues, data.flipped),
            describe_machine("torch"),
        )
    )


def main() -> None:
    """Prints the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder of images for each label")
    parser.add_argument("--images", type=int, default=5_000, help="images that are drawn (default: 5000)")
    parser.add_argument("--flips", type=int, default=200, help="labels that are changed (default: 200)")
    parser.add_argument("--folds", type=int, default=4, help="networks that are trained (default: 4)")
    parser.add_argument("--epochs", type=int, default=12, help="of each network (default: 12)")
    parser.add_argument("--width", type=float, default=0.25, help="of the network (default: 0.25)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default: 0)")
    arguments = parser.parse_args()
    with exit_on_error():
        try:
            print(measure(arguments))
        except TrainingError as error:
            raise ValueError(str(error)) from error


if __name__ == "__main__":
    main()
