"""Reading a file once, and replacing a file atomically.

Loads no torch, so that a file can be read while torch is imported.
"""

import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

# What a file is called until it is whole: its name, then this, with a dot in front of all.
TEMPORARY_SUFFIX = re.compile(r"\.[0-9a-f]{8}\.part")


@dataclass(frozen=True, slots=True)
class FileContents:
    """All bytes of a file, and their SHA-256 in hex."""

    data: bytes
    sha256: str


def read_file(path: Path) -> FileContents:
    """Reads a file. Raises OSError."""
    data = path.read_bytes()
    return FileContents(data, hashlib.sha256(data).hexdigest())


@contextmanager
def replace_atomically(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, which takes the name `path` when the block has ended and all of it is on the disk.

    If the block fails, whatever had that name keeps it. Makes the folders that are missing. Who may read and write the
    file follows from the process's umask. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = name_temporary(path)
    with temporary.open("xb") as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # makes the new name itself survive a power cut
    finally:
        os.close(folder)


def name_temporary(path: Path) -> Path:
    """A name that nobody has, beside `path`."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def remove_temporaries(path: Path) -> None:
    """Deletes what writers of `path` left behind who were killed. Nobody may be writing it. Raises OSError."""
    start = f".{path.name}"
    for entry in path.parent.iterdir() if path.parent.is_dir() else ():
        if entry.name.startswith(start) and TEMPORARY_SUFFIX.fullmatch(entry.name.removeprefix(start)):
            entry.unlink(missing_ok=True)
