"""`python -m training.lr_finder`: at which learning rates a recipe's network learns.

Owns the range test (Smith, arXiv 1506.01186, section 3.3): the rate grows with every step, and the loss tells.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from models.device import find_device
from training.data.dataset import load_dataset
from training.device import configure_torch, report_out_of_memory, resolve_precision
from training.distributed import Processes
from training.finetune import read_recipe_and_start
from training.flags import Parser, UsageError, add_recipe_flags, given_settings, make_parser, run_command
from training.loop import DivergedError, Run
from training.progress import display

LOWEST, HIGHEST = 1e-5, 10.0
FEWEST_STEPS = 10
SMOOTHING = 0.9  # of the running mean of the loss
TOO_HIGH = 2.0  # times the lowest loss so far
SHOWN = 20  # lines of the table
MARGIN = 4  # what is suggested lies so many times below the rate at which the loss turned


@dataclass(frozen=True, slots=True)
class Trial:
    """A step's rate, and the running mean of the loss up to it, in nats."""

    rate: float
    loss: float


class LrRangeRun(Run):
    """A run whose rate grows from LOWEST to HIGHEST over `steps`, whatever its recipe says."""

    def rate(self, step: int) -> float:
        return float(LOWEST * (HIGHEST / LOWEST) ** (step / (self.steps - 1)))


def main(argv: Sequence[str] | None = None) -> int:
    """Tries as the arguments say; 0, or what `training.flags.ended` says, with one line on stderr."""
    return run_command(lambda: run(_parser().parse_args(argv)))


def run(arguments: argparse.Namespace) -> str:
    """The table, and what it suggests. Raises UsageError, TrainingError or OSError."""
    try:
        device = find_device(arguments.device)
        recipe, start = read_recipe_and_start(arguments.data, given_settings(arguments), arguments.recipe)
    except ValueError as error:
        raise UsageError(error) from error
    if arguments.steps < FEWEST_STEPS:
        raise UsageError(f"steps is {arguments.steps}, but must be at least {FEWEST_STEPS}")
    recipe = resolve_precision(recipe, device)
    configure_torch(recipe)
    with report_out_of_memory(device), display(Console(stderr=True)) as shown:
        dataset = load_dataset(
            recipe, arguments.data_root, shown.track, start.description.preprocessing if start else None
        )
        ladder = LrRangeRun(dataset, recipe, Processes(0, 1, device), start)
        trials = run_lr_range(ladder, arguments.steps)
    shown_trials = trials[:: math.ceil(len(trials) / SHOWN)]
    lines = [f"| {trial.rate:.2g} | {trial.loss:.4f} |" for trial in shown_trials]
    table = "\n".join(["| rate | loss |", "| ---: | ---: |", *lines])
    return f"{table}\n\nsuggested: --rate {suggest_lr(trials):.2g}\n"


def run_lr_range(ladder: LrRangeRun, steps: int) -> list[Trial]:
    """One trial a step, until the loss has clearly risen or is no number any more."""
    ladder.steps = steps
    trials: list[Trial] = []
    mean = 0.0
    while ladder.done < steps:
        before, rate = ladder.sums["loss"], ladder.rate(ladder.done)
        try:
            step = ladder.advance()
        except DivergedError:
            break
        mean = SMOOTHING * mean + (1 - SMOOTHING) * (ladder.sums["loss"] - before) / step.images
        trials.append(Trial(rate, mean / (1 - SMOOTHING**ladder.done)))  # not drawn to the zero that it began with
        if trials[-1].loss > TOO_HIGH * min(trial.loss for trial in trials):
            break
    return trials


def suggest_lr(trials: Sequence[Trial]) -> float:
    """A rate with a margin to the one at which the loss was lowest, beyond which steps do harm."""
    return min(trials, key=lambda trial: trial.loss).rate / MARGIN


def _parser() -> Parser:
    made = make_parser("training.lr_finder", "Try learning rates from low to high on one network, and suggest one.")
    made.add_argument("--steps", type=int, default=100, metavar="N", help="rates to try, one a step [%(default)s]")
    add_recipe_flags(made)
    return made


if __name__ == "__main__":
    sys.exit(main())
