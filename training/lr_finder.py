"""`python -m training.lr_finder`: at which learning rates a recipe's network learns.

Owns the range test (Smith, arXiv 1506.01186, section 3.3): the learning rate grows with every step, and the loss shows
where it becomes too high.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from training.device import report_out_of_memory
from training.distributed import Processes
from training.flags import Parser, UsageError, add_recipe_flags, make_parser, run_command
from training.loop import DivergedError, Run
from training.progress import display, open_console
from training.setup import prepare_run

LOWEST, HIGHEST = 1e-5, 10.0  # learning rates
MIN_STEPS = 10
SMOOTHING = 0.9  # of the running mean of the loss
DIVERGED = 2.0  # times the lowest loss so far, where the test ends
MAX_ROWS = 20  # rows of the table
MARGIN = 4  # the suggestion is the learning rate of the lowest loss divided by this


@dataclass(frozen=True, slots=True)
class LrTrial:
    """A step's learning rate, and the running mean of the loss up to it, in nats."""

    lr: float
    loss: float


class LrRangeRun(Run):
    """A run whose learning rate grows from LOWEST to HIGHEST over `steps`, whatever its recipe says."""

    def lr_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return float(LOWEST * (HIGHEST / LOWEST) ** (step / (self.steps - 1)))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the test as the arguments say; returns the exit status that `run_command` describes."""
    return run_command(lambda: find_lr(_parser().parse_args(argv)))


def find_lr(arguments: argparse.Namespace) -> str:
    """The table and the suggested learning rate. Raises UsageError, TrainingError and OSError."""
    if arguments.steps < MIN_STEPS:
        raise UsageError(f"steps is {arguments.steps}, but must be at least {MIN_STEPS}")
    prepared = prepare_run(arguments)
    device = prepared.device
    with report_out_of_memory(device), display(open_console()) as shown:
        dataset = prepared.load_dataset(arguments.data_root, shown.track)
        shown.dataset(dataset)
        run = LrRangeRun(dataset, prepared.recipe, Processes(0, 1, device), prepared.start)
        trials = run_lr_range(run, arguments.steps)
    rows = [f"| {trial.lr:.2g} | {trial.loss:.4f} |" for trial in trials[:: math.ceil(len(trials) / MAX_ROWS)]]
    table = "\n".join(["| lr | loss |", "| ---: | ---: |", *rows])
    return f"{table}\n\nsuggested: --lr {suggest_lr(trials):.2g}\n"


def run_lr_range(run: LrRangeRun, steps: int) -> list[LrTrial]:
    """One trial for each step, until the loss has clearly risen or is not finite."""
    run.steps = steps
    trials: list[LrTrial] = []
    mean = 0.0
    while run.global_step < steps:
        before, lr = run.sums["loss"], run.lr_at(run.global_step)
        try:
            step = run.step()
        except DivergedError:
            break
        mean = SMOOTHING * mean + (1 - SMOOTHING) * (run.sums["loss"] - before) / step.images
        bias_correction = 1 - SMOOTHING**run.global_step  # the mean started at 0
        trials.append(LrTrial(lr, mean / bias_correction))
        if trials[-1].loss > DIVERGED * min(trial.loss for trial in trials):
            break
    return trials


def suggest_lr(trials: Sequence[LrTrial]) -> float:
    """The learning rate of the lowest loss, divided by MARGIN."""
    return min(trials, key=lambda trial: trial.loss).lr / MARGIN


def _parser() -> Parser:
    made = make_parser("training.lr_finder", "Try learning rates from low to high on one network, and suggest one.")
    made.add_argument(
        "--steps", type=int, default=100, metavar="N", help="learning rates to try, one for each step [%(default)s]"
    )
    add_recipe_flags(made)
    return made


if __name__ == "__main__":
    sys.exit(main())
