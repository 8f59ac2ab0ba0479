"""`python -m training.multiscale`: the paper's evaluation of a VGG, on whole images at several scales.

Owns the mean over mirror images and scales (arXiv 1409.1556, sections 3.2 and 4), and the layout of the paper's tables
3 and 4.
"""

import argparse
import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from models.checkpoint import Checkpoint, CheckpointError, read_checkpoint, restore_model
from models.device import find_device
from models.formats.plain import ImageFault
from models.image_files import read_pixels, read_whole
from models.metadata import CheckpointMetadata
from models.networks.fully_convolutional import FullyConvolutional
from models.networks.vgg import VGG
from models.normalise import normalise
from models.preprocess import Pixels
from models.probabilities import softmax
from training.data.folders import find_classes, find_split_folders
from training.data.items import DataError, expand_user, list_some
from training.data.sources import parse_data
from training.data.statistics import identify_image
from training.data.walk import Walker, describe_fault
from training.flags import Parser, UsageError, make_parser, parse_path, run_command
from training.results import TRAINING_SAMPLE
from training.streams import write_stdout

STEP = 1 / 8  # between the default test scales, as a share of S: for an S of 256 the paper's 224, 256 and 288
MAX_SCALE = 4096
TOP = 5
HELD_OUT = ("test", "val")  # the folders that are evaluated instead of the whole, the first that exists
HEADER = (
    f"| network | train (S) | test (Q) | top-1 error (%) | top-{TOP} error (%) |\n| --- | --- | --- | --- | --- |\n"
)


@dataclass(frozen=True, slots=True)
class LabelledFiles:
    """Image files, and the index of each one's label."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluates as the arguments say; returns the exit status that `run_command` describes."""
    return run_command(lambda: evaluate_scales(_parser().parse_args(argv)))


def evaluate_scales(arguments: argparse.Namespace) -> str:
    """Writes each row of the table when it is known, as a scale can take minutes; returns the last row.

    Raises UsageError, TrainingError and OSError.
    """
    try:
        checkpoint = read_checkpoint(arguments.checkpoint)
        model = to_fully_convolutional(checkpoint).to(find_device(arguments.device))
        scales = _choose_scales(arguments.scales, checkpoint.metadata)
        name, folder = parse_data(arguments.data)
        if name != "folder":
            raise ValueError(f"data is {arguments.data!r}, but must be folder:PATH, such as what --save-held-out wrote")
    except ValueError as error:
        raise UsageError(error) from error
    metadata = checkpoint.metadata
    images = find_labelled_files(Path(folder), metadata)
    write_stdout(f"{len(images.paths)} images of {arguments.data}\n\n{HEADER}")
    by_scale = []
    for scale in scales:
        by_scale.append(compute_posteriors(model, metadata, images.paths, scale))
        write_stdout(format_row(metadata, str(scale), by_scale[-1], images.labels))
    if len(scales) == 1:
        return ""
    all_scales = ", ".join(map(str, scales))
    return format_row(metadata, all_scales, torch.stack(by_scale).mean(dim=0), images.labels)


def to_fully_convolutional(checkpoint: Checkpoint) -> FullyConvolutional:
    """The checkpoint's network in its fully convolutional form. Raises CheckpointError if it has none."""
    model = restore_model(checkpoint)
    if not isinstance(model, VGG):
        name = checkpoint.metadata.architecture.name
        raise CheckpointError(checkpoint.path, f"holds {name}, but only a VGG is evaluated on whole images")
    return FullyConvolutional(model)


def find_labelled_files(path: Path, metadata: CheckpointMetadata) -> LabelledFiles:
    """The images of PATH/test/LABEL/... or else PATH/val/LABEL/... where there is one, and else of PATH/LABEL/...

    Raises DataError, also for images that the network was trained on.
    """
    root = expand_user(path)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder")
    walker = Walker(root)
    splits = find_split_folders(root, walker)
    folder = next((splits[name] for name in HELD_OUT if name in splits), root)
    if splits and folder == root:
        raise DataError(f"{root} has neither test/ nor val/, but only {', '.join(splits)}")
    classes = find_classes(folder, walker)
    if walker.faults:
        raise DataError(f"{walker.faults[0].path} {walker.faults[0].why}")
    index = {label: i for i, label in enumerate(metadata.labels)}
    if unknown := [label for label in classes if label not in index]:
        raise DataError(f"{folder} has folders of labels that the network does not know: {list_some(unknown)}")
    files = [(image, index[label]) for label, images in classes.items() for image in images]
    if not files:
        raise DataError(f"{folder} has no images in the folders of its labels")
    found = LabelledFiles(tuple(image for image, _ in files), tuple(label for _, label in files))
    _check_unseen(found, metadata)
    return found


@torch.inference_mode()
def compute_posteriors(
    model: FullyConvolutional, metadata: CheckpointMetadata, paths: Sequence[Path], shorter: int
) -> Tensor:
    """(N, K) probabilities of whole images, resized so that the shorter side is `shorter`. Raises DataError.

    Each row is the mean over the image and its mirror image, if the network was trained on mirror images.
    """
    device = next(model.parameters()).device
    mirrored = metadata.recipe.get("flip") != "none"
    rows = []
    for path in paths:  # one by one, because each has a size of its own
        pixels = _read_image(path, lambda data: read_whole(data, shorter, metadata.preprocessing))
        image = torch.from_numpy(pixels.copy()).to(device)  # (H, W, C)
        views = torch.stack([image, image.flip(1)] if mirrored else [image])
        logits = model(normalise(views, metadata.preprocessing))
        rows.append(softmax(logits, metadata.temperature).mean(dim=0).cpu())
    return torch.stack(rows)


def format_row(metadata: CheckpointMetadata, test_scales: str, probabilities: Tensor, labels: Sequence[int]) -> str:
    """A line of the table for (N, K) probabilities, with the top-1 and top-5 errors."""
    ranked = probabilities.argsort(dim=1, descending=True, stable=True)
    hits = ranked == torch.tensor(labels)[:, None]  # (N, K), one True in each row
    top_1, top_5 = (100 * (1 - float(hits[:, :k].any(dim=1).double().mean())) for k in (1, TOP))
    name, train_scale = metadata.architecture.name, metadata.preprocessing.resize
    return f"| {name} | {train_scale} | {test_scales} | {top_1:.1f} | {top_5:.1f} |\n"


def _check_unseen(files: LabelledFiles, metadata: CheckpointMetadata) -> None:
    """Raises DataError if most of the training images that the checkpoint remembers are among the files.

    A folder is known by its images, because it can have another name than when the network was trained.
    """
    remembered = set(str(metadata.dataset.get(TRAINING_SAMPLE, "")).split())
    if not remembered:
        return
    found = set()
    for path, label in zip(files.paths, files.labels, strict=True):
        pixels = _read_image(path, lambda data: read_pixels(data, metadata.preprocessing))
        found.add(identify_image(hashlib.sha256(pixels.tobytes()).digest(), metadata.labels[label]))
    if 2 * len(found & remembered) > len(remembered):
        first = files.paths[0]
        raise DataError(f"{first} and others are what the network was trained on; give images that it has not seen")


def _read_image(path: Path, decode: Callable[[bytes], Pixels]) -> Pixels:
    """What `decode` makes of the file. Raises DataError where it cannot be read."""
    try:
        return decode(path.read_bytes())
    except (OSError, ImageFault) as error:
        raise DataError(f"{path} {describe_fault(path, error)}") from error


def _choose_scales(given: tuple[int, ...] | None, metadata: CheckpointMetadata) -> tuple[int, ...]:
    size, train_scale = metadata.preprocessing.size, metadata.preprocessing.resize
    if given is None:
        step = round(STEP * train_scale)
        return tuple(q for q in (train_scale - step, train_scale, train_scale + step) if q >= size)
    for scale in given:
        if not size <= scale <= MAX_SCALE:
            raise ValueError(f"scales has {scale}, but must lie in {size} (the network's input size)..{MAX_SCALE}")
    return given


def _parser() -> Parser:
    parser = make_parser(
        "training.multiscale",
        "Evaluate a VGG as the paper does, on whole held-out images at several scales, and print its table.",
    )
    parser.add_argument("checkpoint", type=parse_path, metavar="CHECKPOINT", help="what `python -m training` wrote")
    parser.add_argument(
        "--scales",
        type=_parse_integers,
        metavar="Q,Q,...",
        help="shorter sides in pixels [7/8, 1 and 9/8 of the side in training, none below the input size]",
    )
    return parser


def _parse_integers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers separated by commas") from error


if __name__ == "__main__":
    sys.exit(main())
