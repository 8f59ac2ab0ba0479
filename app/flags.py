"""The command line of a class of settings: one flag with one value for each field, and the help text.

No error repeats a value, because it may be an API key: argparse's own errors repeat the words that they do not know.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic import BaseModel

METAVARS: dict[object, str] = {Path: "FILE", float: "SECONDS", int: "NUMBER"}


def read_flags(arguments: list[str], settings: type[BaseModel], defaults: Mapping[str, str]) -> dict[str, str]:
    """The flags' values by the names of their fields. Raises ValueError with one line that names the flag.

    Prints the help and exits for `-h` and `--help`. `defaults` has the text for defaults that are not constant.
    """
    flags: dict[str, str] = {}
    words = iter(enumerate(arguments, 1))
    for number, word in words:
        name, equals, value = word.partition("=")
        field = name.removeprefix("--").replace("-", "_")  # both spellings are natural: --max-images, --max_images
        if word in ("-h", "--help"):
            _make_parser(settings, defaults).print_help()
            raise SystemExit(0)
        if not word.startswith("--"):
            raise ValueError(f"argument {number} belongs to no flag; a flag takes one value, as in --port 8000")
        if field not in settings.model_fields:
            raise ValueError(f"unknown flag {name}; --help shows all flags")
        if field in flags:
            raise ValueError(f"{name} is given twice")
        if not equals:
            _, value = next(words, (0, "--"))
            if value.startswith("--"):
                raise ValueError(f"{name} has no value; one that begins with -- is given as {name}=VALUE")
        flags[field] = value
    return flags


def _make_parser(settings: type[BaseModel], defaults: Mapping[str, str]) -> argparse.ArgumentParser:
    """Writes the help text: each flag with a plain type and its real default."""
    parser = argparse.ArgumentParser("python -m app", description=settings.__doc__)
    for name, field in settings.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        metavar = next((metavar for kind, metavar in METAVARS.items() if kind in kinds), "TEXT")
        default = defaults.get(name, "none" if field.default in (None, ()) else str(field.default))
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            metavar="|".join(kinds[1:]) if get_origin(field.annotation) is Literal else metavar,
            help=f"{field.description} [{default}]".replace("%", "%%"),
        )
    return parser
