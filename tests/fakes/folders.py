"""Folders of small images, and what stands in for a folder that cannot be listed."""

import errno
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from tests.fakes.images import random_image
from training.data.walk import Scan


def fill(folder: Path, counts: dict[str, int], seed: int = 0) -> Path:
    """Class folders with that many different images each."""
    for label, count in counts.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            random_image(seed + 1000 * len(label) + 100 * ord(label[0]) + i).save(folder / label / f"{i}.png")
    return folder


def scan_all_but(locked: Path) -> Scan:
    """Lists folders as the system does, but for one that this user may not list."""

    def scan(folder: Path) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
        if folder == locked:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        return os.scandir(folder)

    return scan
