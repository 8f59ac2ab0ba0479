"""`python -m training`: from a data set to a checkpoint that can be served.

Owns the command line, whose flags are the recipe's fields, and the words for what went wrong. Loads
torch only when there is work to do, so that `--help` is immediate.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import Field
from pathlib import Path
from typing import Any, NoReturn

from training.config import DEFAULTS, TrainingError, one_line, recipe_for, settings

WRONG_ARGUMENTS, FAILED, INTERRUPTED = 2, 1, 130

# What concerns the run alone and not its result.
RUN_FLAGS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("--data", "digits, cifar10, cifar100, stl10 or folder:PATH", {"required": True}),
    ("--out", "the checkpoint to write, NAME.safetensors", {"required": True, "type": Path, "metavar": "FILE"}),
    ("--save-held-out", "write the held-out images too, as DIR/LABEL/NUMBER.png", {"type": Path, "metavar": "DIR"}),
    (
        "--data-root",
        "where cifar10, cifar100 and stl10 lie or are downloaded to [%(default)s]",
        {"type": Path, "default": Path("data"), "metavar": "DIR"},
    ),
    ("--device", "auto, cpu, cuda or cuda:N; auto is CUDA where there is one [%(default)s]", {"default": "auto"}),
)
METAVARS: dict[object, str] = {int: "N", float: "X", str: "NAME"}


class UsageError(Exception):
    """Arguments that cannot be run. The message is one line."""


class Parser(argparse.ArgumentParser):
    """Raises UsageError where argparse prints its usage and exits."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Trains as the arguments say. 0, or with one line on stderr: 2 wrong arguments, 1 failed, 130 Ctrl-C."""
    # OpenMP's threads by default spin while they wait for each other, which beside another busy process made an
    # epoch of the digits five times as long. Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        summary = run(_parser().parse_args(argv))
    except UsageError as error:
        return _fail(error, WRONG_ARGUMENTS)
    except (TrainingError, OSError) as error:
        return _fail(error, FAILED)
    except ModuleNotFoundError as error:
        return _fail(f"{error.name} is not installed: pip install 'vggserve[train]'", FAILED)
    except KeyboardInterrupt:
        return _fail("interrupted, and no checkpoint was written", INTERRUPTED)
    sys.stdout.write(summary + "\n")
    return 0


def run(arguments: argparse.Namespace) -> str:
    """Loads, trains and writes; a line that says what came of it. Raises UsageError, TrainingError, OSError."""
    from rich.console import Console

    from models import checkpoint
    from training.data import load, write_images
    from training.device import find_device, resolved
    from training.loop import describe, train
    from training.progress import display

    given = vars(arguments)
    out, held_out, root, device_name = (given.pop(name) for name in ("out", "save_held_out", "data_root", "device"))
    try:
        recipe, device = recipe_for(given.pop("data"), given), find_device(device_name)
    except ValueError as error:
        raise UsageError(error) from error
    _check_out(out)
    _check_held_out(held_out)
    recipe = resolved(recipe, device)
    with display(Console(stderr=True)) as shown:
        dataset = load(recipe, root, shown.track)
        shown.unreadable(dataset.unreadable)
        trained = train(dataset, recipe, device, shown)
    version = checkpoint.write(out, describe(trained, dataset, recipe), trained.model)
    if held_out:
        write_images(dataset.splits["val"], dataset.labels, held_out)
    val = trained.metrics["val"]
    return f"wrote {out}: version {version}, {val['accuracy']:.2%} of {val['images']} held-out images right"


def _check_out(out: Path) -> None:
    """Finds out before the training whether there is a place for what comes of it."""
    if out.is_dir():
        raise UsageError(f"out is {out}, a folder, but must be a file's name")
    _check_writable(out.parent, "out", out)


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
    parser = Parser(
        prog="python -m training",
        description="Train a VGG or AlexNet and write a checkpoint that `python -m app` serves.",
        allow_abbrev=False,
    )
    for flag, meaning, options in RUN_FLAGS:
        parser.add_argument(flag, help=meaning, **options)
    group = parser.add_argument_group(
        "recipe", "Kept in the checkpoint. In brackets: what is allowed; the default, then data sets that have another."
    )
    for setting in settings():
        _add_flag(group, setting)
    return parser


def _add_flag(group: argparse._ArgumentGroup, setting: Field[Any]) -> None:
    """The flag of a recipe's field. What is not given stays out of the namespace: the data set's default holds."""
    others = (f"{data} {values[setting.name]}" for data, values in DEFAULTS.items() if setting.name in values)
    notes = filter(None, (str(setting.metadata["allowed"] or ""), ", ".join((str(setting.default), *others))))
    options: dict[str, Any] = {"type": setting.type, "metavar": METAVARS.get(setting.type)}
    if setting.type is bool:
        options = {"action": argparse.BooleanOptionalAction}
    flag, meaning = "--" + setting.name.replace("_", "-"), f"{setting.metadata['meaning']} [{'; '.join(notes)}]"
    group.add_argument(flag, default=argparse.SUPPRESS, help=meaning, **options)


def _fail(error: object, status: int) -> int:
    sys.stderr.write(f"error: {error}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
