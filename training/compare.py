"""`python -m training.compare`: several networks or recipes on the same images.

The runs train in turns, so that other load on the machine slows all of them alike. The command writes a table, a plot
and a log.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.files import replace_atomically
from training.data.dataset import Dataset
from training.device import report_out_of_memory
from training.distributed import Processes
from training.evaluation.metrics import accuracy_metrics, compute_logits
from training.flags import Parser, UsageError, add_recipe_flags, make_parser, parse_path, run_command
from training.lock import lock_outputs
from training.loop import Record, Run
from training.outputs import Place, check_places, check_table, check_writable, find_inputs
from training.progress import Display, display, open_console
from training.recipe import Recipe
from training.report.plots import plot_comparison
from training.setup import PreparedRun, prepare_runs

# Runs that agree in size, channels, side of the training images, and init can share the same tensors.
DatasetKey = tuple[int, int, int, str]
SPLIT_SETTINGS = ("seed", "val_share", "calibration_share", "test_share")
TABLE_NAME = "compare.md"
RESULTS = (TABLE_NAME, "compare.png", "compare.json")
HEADER = (
    "| run | epochs | train accuracy | val accuracy | test accuracy | ms per image | minutes "
    "| epochs to {common:.1%} | minutes to {common:.1%} |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
)


@dataclass(frozen=True, slots=True, eq=False)
class NamedRun:
    """A run, its name in the table, and its data set."""

    name: str
    run: Run
    dataset: Dataset


def main(argv: Sequence[str] | None = None) -> int:
    """Compares as the arguments say; returns the exit status that `run_command` describes."""
    return run_command(lambda: compare_runs(_parser().parse_args(argv)))


def compare_runs(arguments: argparse.Namespace) -> str:
    """Trains all runs, writes the results and returns the table. Raises UsageError, TrainingError and OSError."""
    try:
        names = arguments.runs.split(",")
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"runs has {twice[0]!r} {names.count(twice[0])} times, but must have each run once")
        variants = {name: _parse_variant(name, arguments.recipe) for name in names}
    except ValueError as error:
        raise UsageError(error) from error
    out = Place("out", arguments.out, is_folder=True)
    prepared = prepare_runs(arguments, variants)
    inputs = find_inputs(arguments.data, *(("init", plan.recipe.init) for plan in prepared.values()))
    check_places([out], inputs)
    check_table(out, TABLE_NAME, HEADER.split("epochs")[0], RESULTS)
    check_writable(out)
    with lock_outputs(out.path / "compare.lock", *(out.path / name for name in RESULTS)):
        return _train_and_write(arguments, prepared)


def _train_and_write(arguments: argparse.Namespace, prepared: dict[str, PreparedRun]) -> str:
    device = next(iter(prepared.values())).device
    with report_out_of_memory(device), display(open_console()) as shown:
        datasets = _load_datasets(list(prepared.values()), arguments.data_root, shown)
        shown.dataset(next(iter(datasets.values())))
        runs = []
        for name, plan in prepared.items():
            dataset = datasets[_dataset_key(plan.recipe)]
            runs.append(NamedRun(name, Run(dataset, plan.recipe, Processes(0, 1, device), plan.start), dataset))
        train_in_turns(runs, shown)
        tests = {named.name: _test_accuracy(named) for named in runs}
    histories = {named.name: named.run.history for named in runs}
    text = comparison_table(histories, tests, images=len(runs[0].dataset.splits["train"]))
    logs = {named.name: {"recipe": named.run.recipe.model_dump(), "history": named.run.history} for named in runs}
    _write_results(arguments.out, text, plot_comparison(histories), logs)
    return text


def train_in_turns(runs: Sequence[NamedRun], shown: Display) -> None:
    """Trains epoch by epoch. The next epoch is of the run that has completed the smallest share of its steps."""
    while True:
        named = min(runs, key=lambda other: other.run.global_step / other.run.steps)
        run = named.run
        if run.global_step == run.steps:
            return
        for _ in range(run.steps_per_epoch):
            shown.step(run.step())
        shown.epoch(run.finish_epoch(), named.name)


def comparison_table(histories: dict[str, list[Record]], tests: dict[str, float], images: int) -> str:
    """Markdown: a row for each run, with its time to the accuracy on `val` that all of them reach."""
    common = min(max(record["val_accuracy"] for record in history) for history in histories.values())
    rows = []
    for name, history in histories.items():
        seconds = [record["seconds"] for record in history]
        epochs = next(i for i, record in enumerate(history, start=1) if record["val_accuracy"] >= common)
        last = history[-1]
        rows.append(
            f"| {name} | {len(history)} | {last['train_accuracy']:.3f} | {last['val_accuracy']:.3f} "
            f"| {tests[name]:.3f} | {1000 * sum(seconds) / len(history) / images:.2f} | {sum(seconds) / 60:.1f} "
            f"| {epochs} | {sum(seconds[:epochs]) / 60:.1f} |\n"
        )
    return HEADER.format(common=common) + "".join(rows)


def _parse_variant(name: str, default_recipe: str) -> tuple[str, dict[str, Any]]:
    """The recipe and settings of `ARCHITECTURE`, `RECIPE/ARCHITECTURE` or `RECIPE/ARCHITECTURE/EPOCHS`."""
    match name.split("/"):
        case [architecture]:
            return default_recipe, {"architecture": architecture}
        case [recipe, architecture]:
            return recipe, {"architecture": architecture}
        case [recipe, architecture, epochs] if epochs.isdecimal():
            return recipe, {"architecture": architecture, "epochs": int(epochs)}
        case _:
            raise ValueError(f"runs has {name!r}, but must have ARCHITECTURE, RECIPE/ARCHITECTURE or .../EPOCHS")


def _dataset_key(recipe: Recipe) -> DatasetKey:
    return recipe.size, recipe.channels, recipe.train_side, f"{recipe.init} {recipe.init_preprocessing}"


def _load_datasets(runs: Sequence[PreparedRun], root: Path, shown: Display) -> dict[DatasetKey, Dataset]:
    """The images for each key, split by the first run's seed and shares, so that all runs see the same splits."""
    shares = {name: getattr(runs[0].recipe, name) for name in SPLIT_SETTINGS}
    by_key = {_dataset_key(run.recipe): run for run in runs}
    return {key: run.load_dataset(root, shown.track, **shares) for key, run in by_key.items()}


def _test_accuracy(named: NamedRun) -> float:
    run = named.run
    split = named.dataset.splits[named.dataset.held_out].to(run.processes.device)
    logits = compute_logits(run.ema.model, split.images, run.preprocessing, run.recipe.batch_size)
    return accuracy_metrics(logits, split.labels.cpu())["accuracy"]


def _write_results(folder: Path, text: str, plot: bytes, logs: dict[str, Any]) -> None:
    contents = (text.encode(), plot, json.dumps(logs, indent=1, allow_nan=False).encode())
    for name, content in zip(RESULTS, contents, strict=True):
        with replace_atomically(folder / name) as file:
            file.write(content)


def _parser() -> Parser:
    made = make_parser(
        "training.compare", "Train several networks or recipes on the same images, in turns, and compare them."
    )
    made.add_argument(
        "--runs",
        required=True,
        metavar="RUN,RUN,...",
        help="each ARCHITECTURE, RECIPE/ARCHITECTURE or RECIPE/ARCHITECTURE/EPOCHS, as in alexnet,baseline/vgg16_bn/20",
    )
    made.add_argument(
        "--out",
        required=True,
        type=parse_path,
        metavar="DIR",
        help=f"folder for {', '.join(RESULTS)}",
    )
    add_recipe_flags(made)
    return made


if __name__ == "__main__":
    sys.exit(main())
