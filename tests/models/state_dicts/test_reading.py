"""Files of weights: what is read, and what is refused before it costs memory."""

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from models.state_dicts.layers import group_layers
from models.state_dicts.reading import find_weights_file, read_tensors

PNG = b"\x89PNG\r\n\x1a\n"


def saved(value: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def archive(**parts: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name, contents in parts.items():
            made.writestr(name, contents)
    return file.getvalue()


def repacked(data: bytes) -> bytes:
    """The same archive with its parts compressed."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name in source.namelist():
            made.writestr(name, source.read(name))
    return file.getvalue()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.bin"


@pytest.mark.parametrize(
    "contents",
    [
        saved({"a": torch.ones(2)}),
        saved({"a": torch.ones(2)}, _use_new_zipfile_serialization=False),
        safetensors.torch.save({"a": torch.ones(2)}),
    ],
    ids=["zip", "pickle", "safetensors"],
)
def test_each_format_is_known_by_its_contents(contents: bytes, path: Path) -> None:
    """The file's name does not matter."""
    path.write_bytes(contents)
    assert read_tensors(path)["a"].tolist() == [1, 1]


def test_safetensors_come_in_the_order_of_the_layers(path: Path) -> None:
    """The format sorts names as text, so features.10 stands before features.9 in the file."""
    names = [f"features.{i}.weight" for i in (0, 2, 9, 10, 100)]
    path.write_bytes(safetensors.torch.save({name: torch.ones(1) for name in reversed(names)}))
    assert list(read_tensors(path)) == names


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_stands_for_the_file_in_it(name: str, tmp_path: Path) -> None:
    """Exports and the Hugging Face Hub have folders."""
    (tmp_path / name).touch()
    assert find_weights_file(tmp_path) == tmp_path / name


@pytest.mark.parametrize(
    ("contents", "kind"),
    [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "a Git LFS pointer"),
        (b"\n<!DOCTYPE html><html>", "an HTML page"),
        (b"<HTML><head>", "an HTML page"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras"),
        (b"\x1f\x8b\x08\0", "a gzip archive"),
        (b"weights.pth".ljust(257, b"\0") + b"ustar\x0000", "a tar archive"),
        (b"\x08\x08\x12\x07pytorch\x1a\x052.4.0", "an ONNX file"),
        (PNG, r"an image \(PNG\)"),
        (b'{"metadata": {}, "weight_map": {}}', "a JSON text, such as the index of weights in several files"),
        (b"hello world", "a text that begins with 'hello world'"),
        (archive(**{"m/data.pkl": b"", "m/constants.pkl": b""}), r"a TorchScript archive; save model.state_dict\(\)"),
        (archive(**{"a.npy": b""}), r"a NumPy archive \(\.npz\)"),
        (archive(**{"model.weights.h5": b""}), "a Keras file"),
        (
            archive(**{"vgg.pth": b"", "readme.txt": b""}),
            r"a zip archive of 2 files, such as 'vgg.pth'; unpack it first",
        ),
        (archive(), "an empty zip file"),
    ],
)
def test_other_files_are_recognised(contents: bytes, kind: str, path: Path) -> None:
    """The error says what the file seems to be, and what to do about it."""
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=f"it seems to be {kind}") as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)


class Harmful:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_is_unpickled(zipped: bool, path: Path, tmp_path: Path) -> None:
    """An object is refused by its class's name, and its code does not run."""
    path.write_bytes(saved({"a": Harmful(tmp_path / "made")}, _use_new_zipfile_serialization=zipped))
    with pytest.raises(ValueError, match=r"holds a \S+, not tensors alone; save model\.state_dict\(\) instead"):
        read_tensors(path)
    path.write_bytes(pickle.dumps(Harmful(tmp_path / "made")))
    with pytest.raises(ValueError, match=r"is not a whole file of torch\.save|holds a"):
        read_tensors(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (
            repacked(saved({"a": torch.zeros(10_000_000)})),
            "holds the compressed part '.*'; torch.save compresses nothing",
        ),
        (struct.pack("<Q", 12) + b'{"a": 2}    ', "is not a whole safetensors file"),
        (saved({"a": torch.ones(2)})[:-30], r"is not a whole file of torch\.save"),
        (b"\x80\x04K\x01", r"is not a whole file of torch\.save"),
    ],
)
def test_bombs_and_broken_files_are_refused(contents: bytes, message: str, path: Path) -> None:
    """Compressed archives and cut files are refused in one line."""
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=message):
        read_tensors(path)


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    """A pipe would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is not a regular file"):
        read_tensors(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"is a directory without model\.safetensors or pytorch_model\.bin"):
        find_weights_file(tmp_path)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a.weight": torch.zeros(1).expand(2**40)}, "tensor a.weight takes 4398046511104 bytes, but the file has 4"),
        ({f"a.{i}": torch.zeros(10**6) for i in range(1)} | {}, None),
        ({"a.weight": torch.zeros(3, device="meta")}, "holds a.weight, which is no dense tensor of floats"),
        ({"a.weight": torch.zeros(3, 0)}, "holds a.weight, which is no dense tensor of floats"),
        ({"a.weight": torch.zeros(3).to_sparse()}, "holds a.weight, which is no dense tensor of floats"),
        ({"a.weight": torch.zeros(3, dtype=torch.complex64)}, "holds a.weight, which is no dense tensor of floats"),
    ],
)
def test_tensors_larger_than_their_file_are_refused(
    tensors: dict[str, torch.Tensor], message: str | None, path: Path
) -> None:
    """A tensor that repeats its values, or has none, would cost memory that the file does not have."""
    torch.save(tensors, path)
    if message is None:
        assert group_layers(read_tensors(path), path)
        return
    with pytest.raises(ValueError, match=message):
        group_layers(read_tensors(path), path)


def test_many_tensors_that_share_one_memory_are_refused(path: Path) -> None:
    """A thousand names for the same megabyte would become a gigabyte."""
    shared = torch.zeros(250_000)
    torch.save({f"layer.{i}": shared for i in range(1000)}, path)
    with pytest.raises(ValueError, match="holds tensors of 1000000000 bytes that share memory, but must have at most"):
        group_layers(read_tensors(path), path)
