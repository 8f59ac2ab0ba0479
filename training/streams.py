"""stdout and stderr: a run that works does not fail because nobody can read what it says."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO


def prepare_streams() -> None:
    """Makes every character writable, and keeps files of the run from taking the place of a closed stream."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class TolerantStream:
    """Writes to a stream until that fails, and to nothing from then on. The stream may be None, as a closed one is."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.encoding = getattr(stream, "encoding", None) or "utf-8"
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        with self._forgive():
            if self.stream:
                self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._forgive():
            if self.stream:
                self.stream.flush()

    def isatty(self) -> bool:
        return self.stream is not None and self.stream.isatty()

    def fileno(self) -> int:
        if self.stream is None:
            raise OSError("the stream is closed")
        return self.stream.fileno()

    @contextmanager
    def _forgive(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: the file is closed
            self.error = error if isinstance(error, OSError) else OSError(str(error))
            self._discard()

    def _discard(self) -> None:
        """Nothing more is written. What is left in the stream's buffer goes nowhere when the process ends."""
        stream, self.stream = self.stream, None
        with suppress(OSError, ValueError):
            if stream:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)


def write_stdout(text: str) -> OSError | None:
    """Writes to stdout and flushes. Returns the error where it cannot be written, a reader that has gone excepted."""
    out = TolerantStream(sys.stdout)
    out.write(text)
    out.flush()
    return None if isinstance(out.error, BrokenPipeError) else out.error


def write_stderr(text: str) -> None:
    """Writes to stderr, if there is one."""
    err = TolerantStream(sys.stderr)
    err.write(text)
    err.flush()
