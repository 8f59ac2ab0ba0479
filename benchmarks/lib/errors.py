"""How a benchmark ends that cannot run: one line that names what is wrong, and exit status 1."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Exits with the last line of an OSError, RuntimeError, ValueError or ArithmeticError.

    A RuntimeError has the log of a server that has not started; its last line says why.
    """
    try:
        yield
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {name}{(error.strerror or str(error)).lower()}")
    except (ArithmeticError, RuntimeError, ValueError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        sys.exit(f"error: {lines[-1].removeprefix('error: ')}")


def read_files_below(folder: Path) -> list[Path]:
    """Every file below a folder, sorted by name. Raises ValueError if there is none."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    if not files:
        raise ValueError(f"there is no file below {folder}")
    return files
