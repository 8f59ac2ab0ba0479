"""Reading a file once, checking that one can be written, and replacing one atomically.

Loads no torch, so that a file can be read while torch is imported.
"""

import errno
import hashlib
import os
import re
import secrets
import stat
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
    """Reads a regular file. Raises OSError, also for a file that is larger than the machine's memory."""
    with path.open("rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):  # a device or a pipe may never end
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
        if status.st_size > (memory_bytes := measure_memory_bytes()):
            fault = f"has {status.st_size} bytes, more than the {memory_bytes} of this machine's memory"
            raise OSError(errno.EFBIG, fault, str(path))
        data = file.readall()
    return FileContents(data, hashlib.sha256(data).hexdigest())


def measure_memory_bytes() -> int:
    """The memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_writable(path: Path) -> None:
    """Raises ValueError, and writes nothing, if no file or folder can be made under that name."""
    folder = path.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise ValueError(f"{path}: cannot be written, as {folder} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"{path}: cannot be written, as {folder} does not allow it")


@contextmanager
def replace_atomically(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file to write to. It gets the name `path` when the block has ended and all of it is on the disk.

    If the block fails, a file that had that name stays as it was. Makes the folders that are missing. Who may read and
    write the file follows from the process's umask. Raises OSError.
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
