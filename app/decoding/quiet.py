"""What decoders print: one small file can cause tens of thousands of lines.

Owns making a process that decodes quiet. Python's warnings are counted, and Pillow's log lines and libtiff's messages
are dropped.
"""

import ctypes
import logging
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

MAPS = Path("/proc/self/maps")  # Linux: the files that are mapped into the process
LIBTIFF = re.compile(r"/\S*/libtiff[^/\s]*\.so[^/\s]*")


def count_warnings(on_warning: Callable[[], None]) -> None:
    """Calls `on_warning` for each warning instead of printing it, for the whole process, from now on."""

    def count(*_: Any, **__: Any) -> None:
        on_warning()

    warnings.simplefilter("always")
    warnings.showwarning = count
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    _silence_libtiff()


def _silence_libtiff() -> None:
    """Pillow leaves libtiff's handlers as they are, which print to the process's stderr."""
    from PIL import _imaging  # loads the library  # noqa: F401

    try:
        path = LIBTIFF.search(MAPS.read_text())
        library = ctypes.CDLL(path[0]) if path else None
    except OSError:
        return
    if library:
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)
