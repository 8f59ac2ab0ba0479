"""`python -m training`: from a data set to a checkpoint that can be served.

Owns the command line, and what is written where. Loads torch only when there is work to do, so that `--help`
is immediate.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.config import one_line
from training.flags import Parser, UsageError, add_recipe, ended, given_settings, parser

# What concerns the run alone and not its result.
RUN_FLAGS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("--out", "the checkpoint to write, NAME.safetensors", {"required": True, "type": Path, "metavar": "FILE"}),
    ("--resume", "go on with the run that was cut off, if there is one", {"action": "store_true"}),
    (
        "--save-every",
        "minutes between two saved states; each epoch's end is saved too [%(default)s]",
        {"type": float, "default": 5.0, "metavar": "MINUTES"},
    ),
    ("--save-held-out", "write the held-out images too, as DIR/LABEL/NUMBER.png", {"type": Path, "metavar": "DIR"}),
    ("--tensorboard", "write each epoch's figures for TensorBoard too", {"type": Path, "metavar": "DIR"}),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Trains as the arguments say. 0, or with one line on stderr what `training.flags.ended` says."""
    return ended(lambda: run(_parser().parse_args(argv)))


def run(arguments: argparse.Namespace) -> str:
    """Loads, trains and writes; a line that says what came of it. Raises UsageError, TrainingError, OSError."""
    from rich.console import Console

    from models import checkpoint
    from models.device import find_device
    from training import report
    from training.board import recording
    from training.data import load, write_images
    from training.device import prepare, resolved
    from training.loop import train
    from training.progress import display
    from training.results import check_calibration, describe
    from training.resume import SUFFIX, StateFile, stopping
    from training.start import begin
    from training.team import team

    out = arguments.out
    try:
        device = find_device(arguments.device)
        recipe, start = begin(arguments.data, given_settings(arguments), arguments.recipe)
    except ValueError as error:
        raise UsageError(error) from error
    recipe = resolved(recipe, device)
    prepare(recipe)
    _check_out(out)
    _check_held_out(arguments.save_held_out)
    kept = StateFile(out.with_suffix(SUFFIX), 60 * arguments.save_every)
    if kept.path.exists() and not arguments.resume:
        raise UsageError(f"{kept.path} is of an unfinished run: --resume goes on with it, or delete it")
    with team(device) as members, display(Console(stderr=True, quiet=not members.leads)) as shown:
        with members.in_turn():
            dataset = load(recipe, arguments.data_root, shown.track, start.description.preprocessing if start else None)
        shown.dataset(dataset)
        check_calibration(dataset)
        board = arguments.tensorboard if members.leads else None
        with stopping() as stop, recording(shown, board) as watch:
            trained = train(dataset, recipe, members, watch, start=start, kept=kept, stop=stop)
    if not members.leads:
        return ""
    description, logits = describe(trained, dataset, recipe, start)
    version = checkpoint.write(out, description, trained.model)
    held_out = dataset.splits[dataset.held_out]
    report.write(out.with_suffix(""), description, version, held_out, logits)
    if arguments.save_held_out:
        write_images(held_out, dataset.labels, arguments.save_held_out)
    kept.delete()
    figures = description.metrics[dataset.held_out]
    right = f"{figures['accuracy']:.2%} of {figures['images']} held-out images right"
    return f"wrote {out}: version {version}, {right}\n"


def _check_out(out: Path) -> None:
    """Finds out before the training whether there is a place for what comes of it."""
    if out.is_dir():
        raise UsageError(f"out is {out}, a folder, but must be a file's name")
    if out.suffix != ".safetensors":
        raise UsageError(f"out is {out}, but must end in .safetensors")
    _check_writable(out.parent, "out", out)
    if out.with_suffix("").is_file():
        raise UsageError(f"out is {out}, but {out.with_suffix('')}, where the report goes, is a file")


def _check_held_out(folder: Path | None) -> None:
    if folder:
        _check_writable(folder, "save_held_out", folder)
        if any(folder.iterdir()):  # older images in it might be ones that this run trains on
            raise UsageError(f"save_held_out is {folder}, which is not empty, but must be")


def _check_writable(folder: Path, name: str, value: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"{name} is {value}, but nothing can be written there: {one_line(error)}") from error


def _parser() -> Parser:
    made = parser("training", "Train a VGG or AlexNet and write a checkpoint that `python -m app` serves.")
    for flag, meaning, options in RUN_FLAGS:
        made.add_argument(flag, help=meaning, **options)
    add_recipe(made)
    return made


if __name__ == "__main__":
    sys.exit(main())
