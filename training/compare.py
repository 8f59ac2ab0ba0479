"""`python -m training.compare`: several networks or recipes side by side, on the same images.

Owns the runs' order, in turns so that a machine's moods hit them alike, and the table, plot and log that come
of it. Knows nothing of how a run learns.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from models.checkpoint import Checkpoint
from models.device import find_device
from models.files import replace_atomically
from training.data.dataset import Dataset, load_dataset
from training.device import configure_torch, report_out_of_memory, resolve_precision
from training.distributed import Processes
from training.evaluation.metrics import accuracy_metrics, compute_logits
from training.finetune import read_recipe_and_start
from training.flags import Parser, UsageError, add_recipe_flags, given_settings, make_parser, run_command
from training.loop import Record, Run
from training.progress import Display, display
from training.recipe import Recipe
from training.report.plots import plot_comparison

Plan = tuple[Recipe, Checkpoint | None]  # what a run does, and what it starts from
Kind = tuple[int, int, int, str]
HEADER = (
    "| run | epochs | train accuracy | val accuracy | test accuracy | ms per image | minutes "
    "| epochs to {common:.1%} | minutes to {common:.1%} |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
)


@dataclass(frozen=True, slots=True, eq=False)
class Contestant:
    """A run and the name it goes by."""

    name: str
    run: Run


def main(argv: Sequence[str] | None = None) -> int:
    """Compares as the arguments say; 0, or what `training.flags.ended` says, with one line on stderr."""
    return run_command(lambda: run(_parser().parse_args(argv)))


def run(arguments: argparse.Namespace) -> str:
    """Trains all and writes what came of it; gives the table. Raises UsageError, TrainingError or OSError."""
    try:
        device = find_device(arguments.device)
        plans = {name: _plan(name, arguments, device) for name in arguments.runs.split(",")}
    except ValueError as error:
        raise UsageError(error) from error
    configure_torch(max((recipe for recipe, _ in plans.values()), key=lambda recipe: recipe.threads))
    with report_out_of_memory(device), display(Console(stderr=True)) as shown:
        datasets = _datasets(list(plans.values()), arguments.data_root, shown)
        contestants = [
            Contestant(name, Run(datasets[_kind(recipe)], recipe, Processes(0, 1, device), start))
            for name, (recipe, start) in plans.items()
        ]
        train_in_turns(contestants, shown)
    tests = {c.name: _test_accuracy(c.run, datasets[_kind(c.run.recipe)]) for c in contestants}
    histories = {c.name: c.run.history for c in contestants}
    images = len(datasets[_kind(contestants[0].run.recipe)].splits["train"])
    text = comparison_table(histories, tests, images)
    logs = {c.name: {"recipe": asdict(c.run.recipe), "history": c.run.history} for c in contestants}
    _write(arguments.out, text, plot_comparison(histories), logs)
    return text


def train_in_turns(contestants: Sequence[Contestant], shown: Display) -> None:
    """Each next epoch is of the run that has done the smallest share of its own."""
    while True:
        contestant = min(contestants, key=lambda c: c.run.done / c.run.steps)
        run = contestant.run
        if run.done == run.steps:
            return
        for _ in range(run.steps_per_epoch):
            shown.step(run.advance())
        shown.epoch(run.finish_epoch(), contestant.name)


def comparison_table(histories: dict[str, list[Record]], tests: dict[str, float], images: int) -> str:
    """Markdown: a row for each run, with how long it took to the accuracy on `val` that all of them reach."""
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


def _plan(name: str, arguments: argparse.Namespace, device: torch.device) -> Plan:
    """`ARCHITECTURE`, `RECIPE/ARCHITECTURE` or `RECIPE/ARCHITECTURE/EPOCHS`. Raises ValueError."""
    own: dict[str, Any]
    match name.split("/"):
        case [architecture]:
            recipe, own = arguments.recipe, {"architecture": architecture}
        case [recipe, architecture]:
            own = {"architecture": architecture}
        case [recipe, architecture, epochs] if epochs.isdecimal():
            own = {"architecture": architecture, "epochs": int(epochs)}
        case _:
            raise ValueError(f"runs has {name!r}, but must have ARCHITECTURE, RECIPE/ARCHITECTURE or .../EPOCHS")
    found, start = read_recipe_and_start(arguments.data, {**given_settings(arguments), **own}, recipe)
    return resolve_precision(found, device), start


def _kind(recipe: Recipe) -> Kind:
    """Runs that agree in this can learn from the same tensors; `init` brings a normalisation of its own."""
    return recipe.size, recipe.channels, recipe.train_side, recipe.init


def _datasets(plans: Sequence[Plan], root: Path, shown: Display) -> dict[Kind, Dataset]:
    """For each kind the images, split by the first run's seed and shares: all runs see the same ones."""
    first, _ = plans[0]
    shares = {name: getattr(first, name) for name in ("seed", "val_share", "calibration_share", "test_share")}
    kinds = {_kind(recipe): (recipe, start) for recipe, start in plans}
    return {
        kind: load_dataset(
            replace(recipe, **shares), root, shown.track, start.description.preprocessing if start else None
        )
        for kind, (recipe, start) in kinds.items()
    }


def _test_accuracy(run: Run, dataset: Dataset) -> float:
    split = dataset.splits[dataset.held_out].to(run.team.device)
    logits = compute_logits(run.ema.model, split.images, run.preprocessing, run.recipe.batch_size)
    return accuracy_metrics(logits, split.labels.cpu())["accuracy"]


def _write(folder: Path, text: str, plot: bytes, logs: dict[str, Any]) -> None:
    for name, content in (
        ("compare.md", text.encode()),
        ("compare.png", plot),
        ("compare.json", json.dumps(logs, indent=1).encode()),
    ):
        with replace_atomically(folder / name) as file:
            file.write(content)


def _parser() -> Parser:
    made = make_parser(
        "training.compare", "Train several networks or recipes on the same images, in turns, and compare."
    )
    made.add_argument(
        "--runs",
        required=True,
        metavar="RUN,RUN,...",
        help="each ARCHITECTURE, RECIPE/ARCHITECTURE or RECIPE/ARCHITECTURE/EPOCHS, as in alexnet,baseline/vgg16_bn/20",
    )
    made.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="where compare.md, compare.png and compare.json go"
    )
    add_recipe_flags(made)
    return made


if __name__ == "__main__":
    sys.exit(main())
