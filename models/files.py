"""Reading a file once, checking that one can be written, and replacing one atomically.

Loads no torch, so that a file can be read while torch is imported.
"""

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO


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

    If the block fails, a file that had that name stays as it was. Makes the folders that are missing. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            yield file
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink()
            raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # makes the new name itself survive a power cut
    finally:
        os.close(folder)
