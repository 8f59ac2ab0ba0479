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

from training.flags import Parser, UsageError, add_recipe_flags, given_settings, make_parser, run_command
from training.recipe import one_line_message

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
    return run_command(lambda: run(_parser().parse_args(argv)))


def run(arguments: argparse.Namespace) -> str:
    """Loads, trains and writes; a line that says what came of it. Raises UsageError, TrainingError, OSError."""
    from rich.console import Console

    from models import checkpoint
    from models.device import find_device
    from training.data.dataset import load_dataset, write_images
    from training.device import configure_torch, resolve_precision
    from training.distributed import join_processes
    from training.finetune import read_recipe_and_start
    from training.loop import train
    from training.progress import display
    from training.report import report
    from training.results import build_metadata, check_calibration
    from training.run_state import SUFFIX, StateFile, stop_on_signals
    from training.tensorboard import record_to_tensorboard

    out = arguments.out
    try:
        device = find_device(arguments.device)
        recipe, start = read_recipe_and_start(arguments.data, given_settings(arguments), arguments.recipe)
    except ValueError as error:
        raise UsageError(error) from error
    recipe = resolve_precision(recipe, device)
    configure_torch(recipe)
    _check_out(out)
    _check_held_out(arguments.save_held_out)
    kept = StateFile(out.with_suffix(SUFFIX), 60 * arguments.save_every)
    if kept.path.exists() and not arguments.resume:
        raise UsageError(f"{kept.path} is of an unfinished run: --resume goes on with it, or delete it")
    with join_processes(device) as members, display(Console(stderr=True, quiet=not members.leads)) as shown:
        with members.in_turn():
            dataset = load_dataset(
                recipe, arguments.data_root, shown.track, start.description.preprocessing if start else None
            )
        shown.dataset(dataset)
        check_calibration(dataset)
        board = arguments.tensorboard if members.leads else None
        with stop_on_signals() as stop, record_to_tensorboard(shown, board) as watch:
            trained = train(dataset, recipe, members, watch, start=start, kept=kept, stop=stop)
    if not members.leads:
        return ""
    description, evaluation = build_metadata(trained, dataset, recipe, start)
    version = checkpoint.write_checkpoint(out, description, trained.model)
    report.write_report(out.with_suffix(""), description, version, evaluation)
    if arguments.save_held_out:
        write_images(evaluation.split, dataset.labels, arguments.save_held_out)
    kept.delete()
    metrics = evaluation.metrics
    right = f"{metrics['accuracy']:.2%} of {metrics['images']} held-out images right"
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
        raise UsageError(f"{name} is {value}, but nothing can be written there: {one_line_message(error)}") from error


def _parser() -> Parser:
    made = make_parser("training", "Train a VGG or AlexNet and write a checkpoint that `python -m app` serves.")
    for flag, meaning, options in RUN_FLAGS:
        made.add_argument(flag, help=meaning, **options)
    add_recipe_flags(made)
    return made


if __name__ == "__main__":
    sys.exit(main())
