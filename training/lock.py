"""The lock that keeps two runs from writing to one place."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.files import remove_temporaries
from training.flags import UsageError

# What flock says on a file system without locks, such as some network drives have.
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


@contextmanager
def lock_outputs(lock_path: Path, *files: Path) -> Iterator[None]:
    """Keeps other runs that lock the same file out while the block runs; first deletes what killed runs left.

    `files` are those that the run will write atomically. The system drops the lock when the process ends, however it
    ends. Raises UsageError if another run holds it, and OSError.
    """
    descriptor = _acquire(lock_path)
    try:
        _write_owner(descriptor, lock_path)
        for file in files:
            remove_temporaries(file)
        yield
    finally:
        lock_path.unlink(missing_ok=True)  # while it is locked: another run never holds a file without a name
        os.close(descriptor)


def _write_owner(descriptor: int, lock_path: Path) -> None:
    try:
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:  # a full disk; the error of a descriptor names no file
        raise OSError(error.errno, error.strerror, str(lock_path)) from error


def _acquire(lock_path: Path) -> int:
    """The descriptor of a locked file that has the name `lock_path`."""
    while True:
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise UsageError(f"another run writes there: process {owner} holds {lock_path}") from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(descriptor)
                raise
            return descriptor
        try:
            if os.path.samestat(os.fstat(descriptor), lock_path.stat()):
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)  # the run that held it has deleted it in the meantime
