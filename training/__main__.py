"""`python -m training`: from a data set to a checkpoint that can be served.

Owns the command line and where results are written.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.errors import one_line_message
from training.flags import Parser, UsageError, add_recipe_flags, make_parser, run_command

# Flags that do not change the trained weights.
RUN_FLAGS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("--out", "the checkpoint to write, NAME.safetensors", {"required": True, "type": Path, "metavar": "FILE"}),
    ("--resume", "continue the unfinished run, if there is one", {"action": "store_true"}),
    (
        "--save-every",
        "minutes between two saved states; the end of each epoch is saved too [%(default)s]",
        {"type": float, "default": 5.0, "metavar": "MINUTES"},
    ),
    ("--save-held-out", "also write the held-out images, as DIR/LABEL/NUMBER.png", {"type": Path, "metavar": "DIR"}),
    ("--tensorboard", "also write each epoch's metrics for TensorBoard", {"type": Path, "metavar": "DIR"}),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Trains as the arguments say; returns the exit status that `run_command` describes."""
    return run_command(lambda: train_checkpoint(_parser().parse_args(argv)))


def train_checkpoint(arguments: argparse.Namespace) -> str:
    """Loads the data, trains and writes the results; returns a line about them.

    Raises UsageError, TrainingError and OSError.
    """
    # Imported here because they load torch, and --help must be immediate.
    from rich.console import Console

    from models.checkpoint import write_checkpoint
    from training.data.dataset import write_images
    from training.distributed import join_processes
    from training.finetune import describe_weights
    from training.loop import train
    from training.progress import display
    from training.report.report import write_report
    from training.results import build_metadata, check_calibration
    from training.run_state import SUFFIX, StateFile, stop_on_signals
    from training.setup import prepare_run
    from training.tensorboard import record_to_tensorboard

    out = arguments.out
    prepared = prepare_run(arguments)
    _check_out(out)
    _check_held_out(arguments.save_held_out)
    state_file = StateFile(out.with_suffix(SUFFIX), 60 * arguments.save_every)
    if state_file.path.exists() and not arguments.resume:
        raise UsageError(f"{state_file.path} is the state of an unfinished run: add --resume, or delete it")
    with (
        join_processes(prepared.device) as processes,
        display(Console(stderr=True, quiet=not processes.is_main_process)) as shown,
    ):
        with processes.main_process_first():
            dataset = prepared.load_dataset(arguments.data_root, shown.track)
        shown.dataset(dataset)
        if prepared.start:
            network = prepared.recipe.network(len(dataset.labels))
            shown.start(describe_weights(prepared.start, network, dataset.labels))
        check_calibration(dataset)
        events = arguments.tensorboard if processes.is_main_process else None
        with stop_on_signals() as stop, record_to_tensorboard(shown, events) as callback:
            trained = train(
                dataset, prepared.recipe, processes, callback, start=prepared.start, state_file=state_file, stop=stop
            )
    if not processes.is_main_process:
        return ""
    metadata, evaluation = build_metadata(trained, dataset, prepared.recipe, prepared.start)
    version = write_checkpoint(out, metadata, trained.model)
    write_report(out.with_suffix(""), metadata, version, evaluation)
    if arguments.save_held_out:
        write_images(evaluation.split, dataset.labels, arguments.save_held_out)
    state_file.delete()
    metrics = evaluation.metrics
    right = f"{metrics['accuracy']:.2%} of {metrics['images']} held-out images right"
    issues = f"; {evaluation.issues.summary}" if evaluation.issues else ""
    return f"wrote {out}: version {version}, {right}{issues}\n"


def _check_out(out: Path) -> None:
    """Raises UsageError before the training if the results cannot be written."""
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
        if any(folder.iterdir()):  # older images in it may be ones that this run trains on
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
