"""Walking through folders: links, litter of the system, and what cannot be read.

Nothing is passed over in silence: what is no image is a fault, what the system left behind is counted.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from models.image_formats import list_formats, recognise_format
from training.data.items import DataError, Fault
from training.errors import one_line_message

# What macOS, Windows, Synology, ext4 and Python leave in folders, in lower case; and everything that is hidden.
LITTER = {
    "__macosx",
    "icon\r",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "$recycle.bin",
    "system volume information",
    "@eadir",
    "lost+found",
    "__pycache__",
}
# Files with these suffixes are taken for images until they are read. Any other file must begin like an image.
SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"}
SIGNATURE_BYTES = 32
LFS_START = b"version https://git-lfs.github.com/spec/"

Scan = Callable[[Path], AbstractContextManager[Iterator[os.DirEntry[str]]]]
FolderKey = tuple[int, int]  # device and inode: the same for a folder and every link to it


class Walker:
    """Lists the folders below `root`, each of them once, and keeps what it met there.

    `litter` are hidden files and those of the system, `faults` are files that cannot be images, `repeated` are links
    to folders that were listed already, `nested` are the folders within each listed one, and `unused` are files that
    are no images and need not be any. A file that is no image is a fault, unless `others_are_faults` is false.
    """

    def __init__(self, root: Path, scan: Scan = os.scandir, *, others_are_faults: bool = True) -> None:
        self.scan, self.others_are_faults = scan, others_are_faults
        self.listed: dict[Path, tuple[list[Path], list[Path]]] = {}
        self.litter: list[Path] = []
        self.faults: list[Fault] = []
        self.repeated: list[Path] = []
        self.unused: list[Path] = []
        self.nested: dict[Path, list[Path]] = {}
        real = root.resolve()
        self.above = {_folder_key(folder) for folder in (real, *real.parents)}
        self.owners: dict[FolderKey, Path] = {}

    def list_folder(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """The folders and the files in a folder, sorted. Raises DataError if it cannot be listed."""
        if folder in self.listed:
            return self.listed[folder]
        folders, files = self.listed[folder] = [], []
        try:
            with self.scan(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(f"{folder} cannot be listed ({error.strerror}), but may hold images") from error
        for entry in found:
            path = folder / entry.name
            if entry.name.startswith(".") or entry.name.casefold() in LITTER:
                self.litter.append(path)
            elif _is(entry.is_dir):
                folders.append(path)
            elif _is(entry.is_file):
                files.append(path)
            else:
                self._keep_fault(path)
        return folders, files

    def list_images(self, folder: Path) -> list[Path]:
        """The images in a folder at any depth, sorted. Raises DataError for a folder that two folders share."""
        self.nested[folder] = []
        return sorted(self._list_below(folder, folder))

    def is_image(self, path: Path) -> bool:
        """Whether the file has an image's suffix or begins like an image. What cannot be opened is a fault."""
        if path.suffix.casefold() in SUFFIXES:
            return True
        try:
            with path.open("rb") as file:
                return recognise_format(file.read(SIGNATURE_BYTES)) is not None
        except OSError as error:
            self.faults.append(Fault(path, f"cannot be opened ({error.strerror})"))
            return False

    def _list_below(self, folder: Path, owner: Path) -> Iterator[Path]:
        if not self._claim(folder, owner):
            return
        folders, files = self.list_folder(folder)
        for path in files:
            count = len(self.faults)
            if self.is_image(path):
                yield path
            elif not self.others_are_faults:
                self.unused.append(path)
            elif len(self.faults) == count:
                self.faults.append(Fault(path, f"is no image of a format that is read ({list_formats()})"))
        for inner in folders:
            self.nested[owner].append(inner)
            yield from self._list_below(inner, owner)

    def _claim(self, folder: Path, owner: Path) -> bool:
        """Whether the folder is met for the first time. Links that lead upwards and repeated ones are kept."""
        key = _folder_key(folder)
        if key in self.above or self.owners.get(key) == owner:
            self.repeated.append(folder)
            return False
        if key in self.owners:
            raise DataError(f"{folder} is the same folder as one of {self.owners[key]}, so its images are in both")
        self.owners[key] = owner
        return True

    def _keep_fault(self, path: Path) -> None:
        if not path.is_symlink():
            self.faults.append(Fault(path, "is neither a file nor a folder"))
            return
        fault = Fault(path, f"is a link to {path.readlink()}, which cannot be followed")
        if path.suffix.casefold() not in SUFFIXES:  # it may have been a folder of many images
            raise DataError(f"{fault.path} {fault.why}")
        self.faults.append(fault)


def describe_fault(path: Path, error: Exception) -> str:
    """Why a file that was taken for an image cannot be read, from its first bytes if they say more than `error`."""
    try:
        with path.open("rb") as file:
            start = file.read(len(LFS_START))
    except OSError as opening:
        return f"cannot be opened ({opening.strerror})"
    if not start:
        return "is an empty file"
    if start == LFS_START:
        return "is a pointer of Git LFS, not the image; `git lfs pull` gets it"
    return f"cannot be read as an image ({one_line_message(error)})"


def _folder_key(folder: Path) -> FolderKey:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _is(ask: Callable[[], bool]) -> bool:
    try:
        return ask()
    except OSError:  # a link to itself, or to where one may not look
        return False
