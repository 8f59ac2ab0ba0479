"""The command line that the trainer's commands share, and how they report errors.

A recipe's settings are flags. This module loads no torch, so that `--help` is immediate.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from pydantic.fields import FieldInfo

from training.data.items import DataError, expand_user
from training.data.sources import DATA_SETS, list_data_sets
from training.errors import TrainingError, one_line_message
from training.recipe import describe_range, field_type, recipe_fields
from training.recipes import RECIPES
from training.streams import prepare_streams, write_stderr, write_stdout

WRONG_ARGUMENTS, FAILED, INTERRUPTED = 2, 1, 130
METAVARS: dict[object, str] = {int: "N", float: "X", str: "NAME"}


class UsageError(Exception):
    """Arguments that cannot be run. The message is one line."""


class Parser(argparse.ArgumentParser):
    """Raises UsageError where argparse prints its usage and exits."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def make_parser(program: str, description: str) -> Parser:
    """A parser with the flags `--data`, `--data-root` and `--device`."""
    made = Parser(prog=f"python -m {program}", description=description, allow_abbrev=False)
    made.add_argument("--data", required=True, help=list_data_sets())
    made.add_argument(
        "--data-root",
        type=parse_path,
        default=Path("data"),
        metavar="DIR",
        help="folder of torchvision's data sets, which are downloaded if missing [%(default)s]",
    )
    made.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N; auto is CUDA where there is one [%(default)s]"
    )
    return made


def parse_path(text: str) -> Path:
    """A path, in which `~` is the home folder. Raises ArgumentTypeError where there is none."""
    try:
        return expand_user(Path(text))
    except DataError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_recipe_flags(to: Parser) -> None:
    """`--recipe`, and a flag for each of a recipe's settings."""
    names = ", ".join(RECIPES)
    to.add_argument("--recipe", default="fast", metavar="NAME", help=f"{names}, or FILE.toml [%(default)s]")
    group = to.add_argument_group(
        "recipe", "Kept in the checkpoint. In brackets: what is allowed; the default, then data sets that have another."
    )
    for name, field in recipe_fields().items():
        _add_flag(group, name, field)


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings of a recipe that the command line gave."""
    names = recipe_fields()
    return {name: value for name, value in vars(arguments).items() if name in names}


def is_main_process() -> bool:
    """Whether this is the first of the processes that torchrun started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def run_command(work: Callable[[], str]) -> int:
    """Does the work and prints the text that it returns. An error becomes one line on stderr and an exit status.

    The status is 2 for wrong arguments, 1 for a failure, and 128 plus the signal's number for a stopped run. Work that
    is done ends with 0, whether or not its text can be written.
    """
    prepare_streams()
    # By default OpenMP's threads spin while they wait for each other. Beside another busy process this made an epoch of
    # the digits five times as long. The variable is read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        summary = work()
    except UsageError as error:
        return _fail(error, WRONG_ARGUMENTS)
    except TrainingError as error:
        return _fail(error, 128 + error.signal_number if error.signal_number else FAILED)
    except MemoryError:
        return _fail("the memory is not enough; fewer images, or a smaller size or batch_size, may help", FAILED)
    except OSError as error:
        return _fail(one_line_message(error), FAILED)
    except ModuleNotFoundError as error:
        return _fail(f"{error.name} is not installed; pip install -r requirements.lock brings it", FAILED)
    except KeyboardInterrupt:
        return _fail("interrupted, and no checkpoint was written", INTERRUPTED)
    if unwritten := write_stdout(summary):
        write_stderr(f"the work is done, but stdout cannot be written: {one_line_message(unwritten)}\n")
    return 0


def _add_flag(group: argparse._ArgumentGroup, name: str, field: FieldInfo) -> None:
    """Adds the flag of a recipe's field. A flag that is not given stays out of the namespace."""
    others = (f"{data} {known.defaults[name]}" for data, known in DATA_SETS.items() if name in known.defaults)
    notes = filter(None, (describe_range(field), ", ".join((str(field.default), *others))))
    kind = field_type(field)
    options: dict[str, Any] = {"type": kind, "metavar": METAVARS.get(kind)}
    if name == "init":
        options["type"] = lambda text: str(parse_path(text))
    if kind is bool:
        options = {"action": argparse.BooleanOptionalAction}
    flag, meaning = "--" + name.replace("_", "-"), f"{field.description} [{'; '.join(notes)}]"
    group.add_argument(flag, default=argparse.SUPPRESS, help=meaning, **options)


def _fail(error: object, status: int) -> int:
    who = "" if is_main_process() else f"process {os.environ['RANK']}: "
    write_stderr(f"error: {who}{error}\n")
    return status
