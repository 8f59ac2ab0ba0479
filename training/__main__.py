"""`python -m training`: from a data set to a checkpoint that can be served.

Owns the command line and where results are written.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from signal import SIGINT
from typing import TYPE_CHECKING, Any

from training.errors import TrainingError, one_line_message
from training.flags import Parser, UsageError, add_recipe_flags, is_main_process, make_parser, parse_path, run_command
from training.lock import lock_outputs
from training.outputs import STATE_SUFFIX, TrainingPlaces, find_inputs

if TYPE_CHECKING:
    from training.data.dataset import Dataset
    from training.loop import Trained
    from training.setup import PreparedRun


# Flags that do not change the trained weights.
RUN_FLAGS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("--out", "the checkpoint to write, NAME.safetensors", {"required": True, "type": parse_path, "metavar": "FILE"}),
    ("--resume", "continue the unfinished run, if there is one", {"action": "store_true"}),
    (
        "--save-every",
        "minutes between two saved states; the end of each epoch is saved too [%(default)s]",
        {"type": float, "default": 5.0, "metavar": "MINUTES"},
    ),
    (
        "--save-held-out",
        "also write the held-out images, as DIR/LABEL/NUMBER.png",
        {"type": parse_path, "metavar": "DIR"},
    ),
    ("--tensorboard", "also write each epoch's metrics for TensorBoard", {"type": parse_path, "metavar": "DIR"}),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Trains as the arguments say; returns the exit status that `run_command` describes."""
    return run_command(lambda: train_checkpoint(_parser().parse_args(argv)))


def train_checkpoint(arguments: argparse.Namespace) -> str:
    """Loads the data, trains and writes the results; returns a line about them.

    Raises UsageError, TrainingError and OSError.
    """
    # Imported here because they load torch, and --help must be immediate.
    from training.device import report_out_of_memory
    from training.setup import prepare_run

    places = TrainingPlaces.of(arguments)
    prepared = prepare_run(arguments)
    inputs = find_inputs(arguments.data, ("init", prepared.recipe.init), ("recipe", _recipe_file(arguments.recipe)))
    places.check(inputs)
    with report_out_of_memory(prepared.device):
        if not is_main_process():
            return _train(arguments, prepared)
        with lock_outputs(places.lock, places.out.path, places.state):
            return _train(arguments, prepared)


def _train(arguments: argparse.Namespace, prepared: "PreparedRun") -> str:
    # Imported here for the same reason.
    from training.data.dataset import check_writable_labels
    from training.distributed import join_processes
    from training.finetune import describe_weights
    from training.loop import train
    from training.progress import display, open_console
    from training.results import check_calibration
    from training.run_state import StateFile, stop_on_signals
    from training.tensorboard import record_to_tensorboard

    if not 0 <= arguments.save_every < float("inf"):
        raise UsageError(f"save_every is {arguments.save_every}, but must be a number of minutes from 0")
    state_file = StateFile(arguments.out.with_suffix(STATE_SUFFIX), 60 * arguments.save_every)
    if state_file.path.exists() and not arguments.resume:
        raise UsageError(f"{state_file.path} is the state of an unfinished run: add --resume, or delete it")
    with (
        join_processes(prepared.device) as processes,
        display(open_console(quiet=not processes.is_main_process)) as shown,
    ):
        with processes.main_process_first():
            dataset = prepared.load_dataset(arguments.data_root, shown.track)
        shown.dataset(dataset)
        if prepared.start:
            network = prepared.recipe.network(len(dataset.labels))
            shown.start(describe_weights(prepared.start, network, dataset.labels))
        check_calibration(dataset)
        if arguments.save_held_out:
            check_writable_labels(dataset.labels, arguments.save_held_out)
        events = arguments.tensorboard if processes.is_main_process else None
        with stop_on_signals() as stop, record_to_tensorboard(shown, events) as callback:
            trained = train(
                dataset, prepared.recipe, processes, callback, start=prepared.start, state_file=state_file, stop=stop
            )
    if not processes.is_main_process:
        return ""
    summary = _write_results(arguments, prepared, dataset, trained)
    state_file.delete()
    return summary


def _write_results(
    arguments: argparse.Namespace, prepared: "PreparedRun", dataset: "Dataset", trained: "Trained"
) -> str:
    from models.checkpoint import write_checkpoint
    from training.data.dataset import write_images
    from training.report.report import write_report
    from training.results import build_metadata

    out, held_out = arguments.out, arguments.save_held_out
    metadata, evaluation = build_metadata(trained, dataset, prepared.recipe, prepared.start)
    version = write_checkpoint(out, metadata, trained.model)
    try:
        write_report(out.with_suffix(""), metadata, version, evaluation)
        if held_out:
            write_images(evaluation.split, dataset.labels, held_out)
    except (OSError, KeyboardInterrupt) as error:
        if held_out:
            shutil.rmtree(held_out, ignore_errors=True)  # it was empty before
        raise UnfinishedError(out, error) from error
    metrics = evaluation.metrics
    right = f"{metrics['accuracy']:.2%} of {metrics['images']} held-out images right"
    issues = f"; {evaluation.issues.summary}" if evaluation.issues else ""
    return f"wrote {out}: version {version}, {right}{issues}\n"


class UnfinishedError(TrainingError):
    """A checkpoint that is written, while its report or held-out images are not."""

    def __init__(self, out: Path, error: BaseException) -> None:
        why = f"{out} is written, but not all that belongs to it ({one_line_message(error)})"
        super().__init__(f"{why}; the same command with --resume writes it again without training")
        if isinstance(error, KeyboardInterrupt):
            self.signal_number = SIGINT


def _recipe_file(name: str) -> str:
    return name if name.endswith(".toml") else ""


def _parser() -> Parser:
    made = make_parser("training", "Train a VGG or AlexNet and write a checkpoint that `python -m app` serves.")
    for flag, meaning, options in RUN_FLAGS:
        made.add_argument(flag, help=meaning, **options)
    add_recipe_flags(made)
    return made


if __name__ == "__main__":
    sys.exit(main())
