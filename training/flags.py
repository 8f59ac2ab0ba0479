"""Command lines whose flags are a recipe's settings.

Owns the parser that the commands share, and how wrong arguments are told. Loads no torch, so that `--help`
is immediate.
"""

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import Field
from pathlib import Path
from typing import Any, NoReturn

from training.recipe import TrainingError, recipe_fields
from training.recipes import DEFAULTS, RECIPES

WRONG_ARGUMENTS, FAILED, INTERRUPTED = 2, 1, 130
METAVARS: dict[object, str] = {int: "N", float: "X", str: "NAME"}


class UsageError(Exception):
    """Arguments that cannot be run. The message is one line."""


class Parser(argparse.ArgumentParser):
    """Raises UsageError where argparse prints its usage and exits."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def make_parser(program: str, description: str) -> Parser:
    """A parser with the flags that say what to learn from, and where."""
    made = Parser(prog=f"python -m {program}", description=description, allow_abbrev=False)
    made.add_argument("--data", required=True, help="digits, cifar10, cifar100, stl10 or folder:PATH")
    made.add_argument(
        "--data-root",
        type=Path,
        default=Path("data"),
        metavar="DIR",
        help="where cifar10, cifar100 and stl10 lie or are downloaded to [%(default)s]",
    )
    made.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N; auto is CUDA where there is one [%(default)s]"
    )
    return made


def add_recipe_flags(to: Parser) -> None:
    """`--recipe`, and a flag for each of a recipe's settings."""
    names = ", ".join(RECIPES)
    to.add_argument("--recipe", default="fast", metavar="NAME", help=f"{names}, or FILE.toml [%(default)s]")
    group = to.add_argument_group(
        "recipe", "Kept in the checkpoint. In brackets: what is allowed; the default, then data sets that have another."
    )
    for setting in recipe_fields():
        _add_flag(group, setting)


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings of a recipe that the command line gave."""
    names = {setting.name for setting in recipe_fields()}
    return {name: value for name, value in vars(arguments).items() if name in names}


def run_command(work: Callable[[], str]) -> int:
    """Does the work, prints the line it gives, and turns what goes wrong into one line on stderr and a status.

    2 for wrong arguments, 1 for what failed, 128 and the signal's number for a run that was stopped.
    """
    # OpenMP's threads by default spin while they wait for each other, which beside another busy process made an
    # epoch of the digits five times as long. Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        summary = work()
    except UsageError as error:
        return _fail(error, WRONG_ARGUMENTS)
    except TrainingError as error:
        return _fail(error, 128 + error.signal_number if error.signal_number else FAILED)
    except OSError as error:
        return _fail(error, FAILED)
    except ModuleNotFoundError as error:
        extra = error.name if error.name == "tensorboard" else "train"
        return _fail(f"{error.name} is not installed: pip install 'vggserve[{extra}]'", FAILED)
    except KeyboardInterrupt:
        return _fail("interrupted, and no checkpoint was written", INTERRUPTED)
    sys.stdout.write(summary)
    return 0


def _add_flag(group: argparse._ArgumentGroup, setting: Field[Any]) -> None:
    """The flag of a recipe's field. What is not given stays out of the namespace: the recipe's own value holds."""
    others = (f"{data} {values[setting.name]}" for data, values in DEFAULTS.items() if setting.name in values)
    notes = filter(None, (str(setting.metadata["allowed"] or ""), ", ".join((str(setting.default), *others))))
    options: dict[str, Any] = {"type": setting.type, "metavar": METAVARS.get(setting.type)}
    if setting.type is bool:
        options = {"action": argparse.BooleanOptionalAction}
    flag, meaning = "--" + setting.name.replace("_", "-"), f"{setting.metadata['meaning']} [{'; '.join(notes)}]"
    group.add_argument(flag, default=argparse.SUPPRESS, help=meaning, **options)


def _fail(error: object, status: int) -> int:
    rank = os.environ.get("RANK", "0")  # of the processes that torchrun starts
    sys.stderr.write(f"error: {f'process {rank}: ' if rank != '0' else ''}{error}\n")
    return status
