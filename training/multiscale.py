"""`python -m training.multiscale`: the paper's test of a VGG, on whole images at several scales.

Owns its command line, the mean over mirror images and scales (arXiv 1409.1556, sections 3.2 and 4), and
the layout of the paper's tables 3 and 4. Of the training it knows what the checkpoint says.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from models.checkpoint import Checkpoint, CheckpointError, CheckpointMetadata, read_checkpoint, restore_model
from models.device import find_device
from models.networks.fully_convolutional import FullyConvolutional
from models.networks.vgg import VGG
from models.preprocess import normalise, resize_whole
from models.probabilities import softmax
from training.data.dataset import FORMATS
from training.data.sources import DataError
from training.recipe import TrainingError, dataset_kind, one_line_message

STEP = 1 / 8  # between the default test scales, as a share of S: for an S of 256 the paper's 224, 256 and 288
LARGEST_SCALE = 4096
TOP = 5
HEADER = (
    f"| network | train (S) | test (Q) | top-1 error (%) | top-{TOP} error (%) |\n| --- | --- | --- | --- | --- |\n"
)


@dataclass(frozen=True, slots=True)
class Labelled:
    """Image files, and the index of each one's right label."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluates as the arguments say; 0, or 1 with one line on stderr."""
    try:
        evaluate(_parser().parse_args(argv))
    except (TrainingError, OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def evaluate(args: argparse.Namespace) -> None:
    """Writes the table, each row as it is known. Raises TrainingError, OSError or ValueError, in one line."""
    checkpoint = read_checkpoint(args.checkpoint)
    description = checkpoint.description
    scales, images = _scales(args.scales, description), find(args.data, description)
    model = dense(checkpoint).to(find_device(args.device))
    sys.stdout.write(f"{len(images.paths)} images of {args.data}\n\n{HEADER}")
    by_scale = []
    for scale in scales:
        by_scale.append(posteriors(model, description, images.paths, scale))
        sys.stdout.write(row(description, str(scale), by_scale[-1], images.labels))
        sys.stdout.flush()
    if len(scales) > 1:
        mean, all_scales = torch.stack(by_scale).mean(dim=0), ", ".join(map(str, scales))
        sys.stdout.write(row(description, all_scales, mean, images.labels))


def dense(checkpoint: Checkpoint) -> FullyConvolutional:
    """The checkpoint's network in its fully convolutional form. Raises CheckpointError if it has none."""
    model = restore_model(checkpoint)
    if not isinstance(model, VGG):
        name = checkpoint.description.architecture.name
        raise CheckpointError(checkpoint.path, f"holds {name}, but only a VGG is evaluated densely")
    return FullyConvolutional(model)


def find(data: str, description: CheckpointMetadata) -> Labelled:
    """The images of folder:PATH, which is PATH/LABEL/..., or PATH/val/LABEL/... if there is a PATH/val.

    Raises DataError, also for images that the network was trained on, and ValueError for other data.
    """
    if dataset_kind(data) != "folder":
        raise ValueError(f"data is {data!r}, but must be folder:PATH, such as what --save-held-out wrote")
    root = Path(data.partition(":")[2])
    folder = root / "val" if (root / "val").is_dir() else root
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    _check_held_out(folder, description)
    files = sorted(path for path in folder.glob("*/**/*") if path.is_file() and not _hidden(path.relative_to(folder)))
    if not files:
        raise DataError(f"{folder} has no images in folders named like their labels")
    index = {label: i for i, label in enumerate(description.labels)}
    names = [path.relative_to(folder).parts[0] for path in files]
    if unknown := sorted(set(names) - index.keys()):
        raise DataError(f"{folder} has a folder {unknown[0]}, but the network knows no such label")
    return Labelled(tuple(files), tuple(index[name] for name in names))


@torch.inference_mode()
def posteriors(
    model: FullyConvolutional, description: CheckpointMetadata, paths: Sequence[Path], shorter: int
) -> Tensor:
    """(N, K) probabilities of whole images, resized so that the shorter side is `shorter`. Raises DataError.

    Each row is the mean of the image's and its mirror image's, but for networks that were trained without.
    """
    device = next(model.parameters()).device
    mirrored = description.recipe.get("flip") != "none"
    rows = []
    for path in paths:  # one by one, as each has a size of its own
        image = _image(path, shorter, description).to(device)  # (H, W, C)
        views = torch.stack([image, image.flip(1)] if mirrored else [image])
        logits = model(normalise(views, description.preprocessing))
        rows.append(softmax(logits, description.temperature).mean(dim=0).cpu())
    return torch.stack(rows)


def row(description: CheckpointMetadata, test_scales: str, probabilities: Tensor, labels: Sequence[int]) -> str:
    """One line of the table for (N, K) probabilities: shares whose label is not first, and not in the first five."""
    ranked = probabilities.argsort(dim=1, descending=True, stable=True)
    found = ranked == torch.tensor(labels)[:, None]  # (N, K), one True a row
    top_1, top_5 = (100 * (1 - float(found[:, :k].any(dim=1).double().mean())) for k in (1, TOP))
    name, train_scale = description.architecture.name, description.preprocessing.resize
    return f"| {name} | {train_scale} | {test_scales} | {top_1:.1f} | {top_5:.1f} |\n"


def _check_held_out(folder: Path, description: CheckpointMetadata) -> None:
    name, _, path = str(description.recipe.get("data", "")).partition(":")
    seen = (Path(path), Path(path) / "train") if name == "folder" else ()
    if folder.resolve() in [where.resolve() for where in seen]:
        raise DataError(f"{folder} is what the network was trained on; give images that it has not seen")


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _image(path: Path, shorter: int, description: CheckpointMetadata) -> Tensor:
    try:
        with Image.open(path, formats=FORMATS) as opened:
            return torch.from_numpy(resize_whole(opened, shorter, description.preprocessing).copy())
    except Exception as error:  # on broken files Pillow raises a dozen kinds, from OSError to struct.error
        raise DataError(f"{path} cannot be read as an image ({one_line_message(error)})") from error


def _scales(given: tuple[int, ...] | None, description: CheckpointMetadata) -> tuple[int, ...]:
    size, train_scale = description.preprocessing.size, description.preprocessing.resize
    if given is None:
        step = round(STEP * train_scale)
        return tuple(q for q in (train_scale - step, train_scale, train_scale + step) if q >= size)
    for scale in given:
        if not size <= scale <= LARGEST_SCALE:
            raise ValueError(f"scales has {scale}, but must lie in {size} (the network's input size)..{LARGEST_SCALE}")
    return given


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.multiscale",
        description="Test a VGG as the paper does, on whole held-out images at several scales, and print its table.",
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="what `python -m training` wrote")
    parser.add_argument("--data", required=True, metavar="folder:PATH", help="held-out images, as PATH/LABEL/...")
    parser.add_argument(
        "--scales",
        type=_integers,
        metavar="Q,Q,...",
        help="shorter sides in pixels [7/8, 1 and 9/8 of that in training, none below the input size]",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N [%(default)s]")
    return parser


def _integers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not whole numbers with commas between") from error


if __name__ == "__main__":
    sys.exit(main())
