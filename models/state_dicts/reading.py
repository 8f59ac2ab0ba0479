"""Reading a file of weights: tensors in dicts and lists, and nothing else.

Owns the bounds. No object is unpickled, and no tensor can be larger than what the file has for it.
"""

import re
import stat
import warnings
import zipfile
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from models.state_dicts.file_kinds import describe_file, is_safetensors

NAMES_IN_FOLDERS = ("model.safetensors", "pytorch_model.bin")  # as the Hugging Face Hub has them


def find_weights_file(path: Path) -> Path:
    """The file itself, or the file of weights in a folder as exports and the Hub have it. Raises ValueError."""
    if not path.is_dir():
        return path
    found = next((path / name for name in NAMES_IN_FOLDERS if (path / name).is_file()), None)
    if found is None:
        raise ValueError(f"is a directory without {' or '.join(NAMES_IN_FOLDERS)}")
    return found


def read_tensors(path: Path) -> Any:
    """What torch.save or safetensors wrote: dicts, lists, plain values, and tensors that map the file.

    Raises ValueError with one line: the fault, and what the file seems to be.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("is not a regular file")
        if is_safetensors(path):
            return _read_safetensors(path)
        if kind := describe_file(path):
            raise ValueError(f"is not a whole file of torch.save or safetensors: it seems to be {kind}")
        return _read_torch(path)
    except OSError as error:
        raise ValueError((error.strerror or str(error)).lower()) from error


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        found = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:  # KeyError: a type that torch has not
        raise ValueError(f"is not a whole safetensors file ({error})") from error
    return dict(sorted(found.items(), key=lambda item: _natural_order(item[0])))


def _natural_order(name: str) -> list[tuple[int, str]]:
    """features.9 before features.10: safetensors files do not keep the order of the layers."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in name.split(".")]


def _read_torch(path: Path) -> Any:
    try:
        is_zip = zipfile.is_zipfile(path)
        if is_zip:
            _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on odd pickles, which are refused or read all the same
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except OSError:
        raise
    except Exception as error:  # a broken pickle may raise anything
        if refused := re.search(r"GLOBAL (\S+) was not an allowed", str(error)):
            raise ValueError(f"holds a {refused[1]}, not tensors alone; save model.state_dict() instead") from error
        if isinstance(error, _ArchiveError):
            raise
        raise ValueError("is not a whole file of torch.save") from error


class _ArchiveError(ValueError):
    """An archive that torch.save does not write."""


def _check_archive(path: Path) -> None:
    """torch.save compresses nothing, so the parts of its archive are no larger than the file."""
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    if bad := [part.filename for part in parts if part.compress_type != zipfile.ZIP_STORED]:
        raise _ArchiveError(f"holds the compressed part {bad[0]!a}; torch.save compresses nothing")
    if (total := sum(part.file_size for part in parts)) > path.stat().st_size:
        raise _ArchiveError(f"declares parts of {total} bytes, more than the file's {path.stat().st_size}")
