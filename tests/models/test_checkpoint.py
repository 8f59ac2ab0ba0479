"""Checkpoints: what is written is what is read, and nothing that is not whole is read at all."""

import base64
import dataclasses
import functools
import hashlib
import io
import json
import os
import pickle
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn

from models.checkpoint import (
    Checkpoint,
    CheckpointError,
    read_checkpoint,
    restore_model,
    write_checkpoint,
)
from models.golden import GoldenSample, record_golden_sample
from models.metadata import CheckpointMetadata
from models.networks.registry import Architecture, build_network
from models.preprocess import Preprocessing
from models.probabilities import Calibration

ARCHITECTURE = Architecture("vgg11_bn", num_classes=3, input_size=32, head="pooled", width=1 / 64)
PREPROCESSING = Preprocessing(32, 36, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), interpolation="bicubic")
CALIBRATION = Calibration(kind="aps", images=3, scores=(0.0, 0.1, 1 / 3), energies=(-2.5, -2.5, 1e-30))


@functools.cache
def network() -> nn.Module:
    torch.manual_seed(0)
    model = build_network(ARCHITECTURE)
    with torch.no_grad():
        model(torch.randn(4, 3, 32, 32))  # moves the batch statistics away from 0 and 1
    return model


@functools.cache
def golden() -> GoldenSample:
    return record_golden_sample(network(), PREPROCESSING, Image.new("RGB", (40, 50), (10, 90, 200)))


def metadata(**changes: Any) -> CheckpointMetadata:
    fields: dict[str, Any] = {
        "architecture": ARCHITECTURE,
        "labels": ("cat", "Ελλάδα", 'a "quoted" one'),
        "preprocessing": PREPROCESSING,
        "golden": golden(),
        "temperature": 1.25,
        "calibration": CALIBRATION,
        "metrics": {"val": {"accuracy": 0.5}},
        "history": ({"epoch": 0, "loss": 1.5}, {"epoch": 1, "loss": 0.25}),
        "dataset": {"name": "toy", "splits": {"train": 5}},
        "recipe": {"epochs": 2, "flip": True},
        "seed": 7,
    }
    return CheckpointMetadata(**(fields | changes))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "toy.safetensors"


@pytest.fixture
def sound(path: Path) -> bytes:
    """A sound checkpoint's bytes, which also lie at `path`."""
    write_checkpoint(path, metadata(), network())
    return path.read_bytes()


def forged(document: dict[str, Any], state: dict[str, torch.Tensor]) -> bytes:
    """A file whose hash is right, whatever it says."""
    text = json.dumps(document)
    digest = hashlib.sha256(text.encode())
    for name in sorted(state):
        digest.update(f"{name} {state[name].dtype} {tuple(state[name].shape)}".encode())
        digest.update(state[name].numpy().tobytes())
    return safetensors.torch.save(state, {"classifier": text, "sha256": digest.hexdigest()})


def document_of(data: bytes) -> dict[str, Any]:
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    document: dict[str, Any] = json.loads(header["__metadata__"]["classifier"])
    return document


def huge_png() -> str:
    """A PNG file of some bytes whose header declares 7,000 x 7,000 pixels, in base64."""
    header = struct.pack(">II5B", 7_000, 7_000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    parts = [struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks]
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).decode()


def test_round_trip(path: Path) -> None:
    """The metadata comes back equal, field by field, and every tensor to the last bit."""
    written, model = metadata(), network()
    write_checkpoint(path, written, model)
    found = read_checkpoint(path)
    assert found.metadata == written
    assert found.state.keys() == model.state_dict().keys()
    assert all(torch.equal(found.state[name], tensor) for name, tensor in model.state_dict().items())


def test_a_calibration_is_not_required(path: Path) -> None:
    """Metadata without one comes back without one."""
    write_checkpoint(path, metadata(calibration=None), network())
    assert read_checkpoint(path).metadata.calibration is None


def test_version_is_the_file_s_hash(path: Path) -> None:
    """Writer and reader name the first 12 hex digits of the file's SHA-256."""
    version = write_checkpoint(path, metadata(), network())
    assert version == read_checkpoint(path).version == hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def test_restore_gives_the_network(path: Path) -> None:
    """The restored network is in evaluation mode and gives the golden logits to the last bit."""
    write_checkpoint(path, metadata(), network())
    found = read_checkpoint(path)
    model = restore_model(found)
    assert not any(module.training for module in model.modules())
    with Image.open(io.BytesIO(found.metadata.golden.image)) as image:
        assert record_golden_sample(model, PREPROCESSING, image).logits == found.metadata.golden.logits


def test_a_foreign_reader_can_load_it(sound: bytes) -> None:
    """It is an ordinary safetensors file whose metadata are JSON."""
    assert safetensors.torch.load(sound).keys() == network().state_dict().keys()
    assert document_of(sound)["labels"][1] == "Ελλάδα"


@pytest.mark.parametrize("part", ["header", "tensors"])
def test_a_flipped_bit_is_refused(part: str, path: Path, sound: bytes) -> None:
    """Whichever bit of the file is flipped, in the header or in the weights, it is not read."""
    begin = 8 + int.from_bytes(sound[:8], "little")
    first, last, step = (0, begin, 7) if part == "header" else (begin, len(sound), 97)
    positions = [*range(first, last, step), last - 1]
    assert len(positions) > 100
    for i, position in enumerate(positions):
        damaged = bytearray(sound)
        damaged[position] ^= 1 << i % 8
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"toy\.safetensors"):
            read_checkpoint(path)


@pytest.mark.parametrize("kept", [1, 7, 8, 100, -1])
def test_a_truncated_file_is_refused(kept: int, path: Path, sound: bytes) -> None:
    """A file that ends too early is not read."""
    path.write_bytes(sound[:kept])
    with pytest.raises(CheckpointError, match="is not a whole safetensors file"):
        read_checkpoint(path)


def test_a_longer_file_is_refused(path: Path, sound: bytes) -> None:
    """Nor is one with something behind its end."""
    path.write_bytes(sound + b"\0")
    with pytest.raises(CheckpointError, match="is not a whole safetensors file"):
        read_checkpoint(path)


def test_what_is_not_a_file_is_refused(path: Path, tmp_path: Path) -> None:
    """A missing file, a folder and an empty file are named with their fault."""
    with pytest.raises(CheckpointError, match=r"toy\.safetensors: no such file or directory"):
        read_checkpoint(path)
    with pytest.raises(CheckpointError, match="is a directory"):
        read_checkpoint(tmp_path)
    path.touch()
    with pytest.raises(CheckpointError, match="is not a whole safetensors file"):
        read_checkpoint(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_never_loaded(zipped: bool, path: Path) -> None:
    """A file of torch.save is refused with a hint at the command that converts it."""
    torch.save(network().state_dict(), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"is a pickle, which is never loaded; make .* with models\.convert"):
        read_checkpoint(path)


def test_a_header_s_length_is_not_taken_for_a_pickle(path: Path) -> None:
    """Files that happen to start with a pickle's first byte, because of the length of their header, are read."""
    starts = set()
    for length in range(0, 256, 8):
        write_checkpoint(path, metadata(recipe={"note": "n" * length}), network())
        starts.add(path.read_bytes()[0])
        assert len(read_checkpoint(path).metadata.recipe["note"]) == length
    assert pickle.PROTO[0] in starts


def oversized(header: dict[str, Any], length: int | None = None) -> bytes:
    """A safetensors file of some bytes that declares more than it has."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + bytes(4)


@pytest.mark.parametrize(
    "contents",
    [
        oversized({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}),
        oversized({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]}}),
        oversized({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}),
        oversized({name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for name in "ab"}),
        oversized({}, length=2**62),
        oversized({}, length=2**24 + 1),
        struct.pack("<Q", 2**20) + b"[" * 2**20,
        oversized({"a": {"dtype": "F4", "shape": [8], "data_offsets": [0, 4]}}),
    ],
    ids=["offsets", "shape", "product", "overlap", "header", "header of 16 MiB", "nesting", "type"],
)
def test_what_asks_for_absurd_memory_is_refused(contents: bytes, path: Path) -> None:
    """Sizes that the file does not have are refused before anything of that size is allocated."""
    path.write_bytes(contents)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="is not a whole safetensors file") as caught:
        read_checkpoint(path)
    assert tracemalloc.get_traced_memory()[1] < 2**25
    tracemalloc.stop()
    assert "\n" not in str(caught.value)


def test_an_error_is_one_short_line() -> None:
    """Whatever a file's name or its contents are, the message is printable and not long."""
    line = str(CheckpointError(Path("a\nb"), "x" * 10_000 + "\x1b[31m"))
    assert line.startswith(r"a\nb: xxx")
    assert line.endswith(r"\x1b[31m")
    assert line.isprintable()
    assert len(line) < 1000


def test_what_would_never_end_is_not_read(path: Path) -> None:
    """A device and a file larger than the machine's memory are refused before they are read."""
    with pytest.raises(CheckpointError, match="/dev/zero: is not a regular file"):
        read_checkpoint(Path("/dev/zero"))
    with path.open("wb") as file:
        file.truncate(2**43)  # a hole, which takes no room on the disk
    with pytest.raises(
        CheckpointError, match=r"has 8796093022208 bytes, more than the [0-9]+ of this machine's memory"
    ):
        read_checkpoint(path)


def test_a_foreign_file_is_refused(path: Path) -> None:
    """A safetensors file without our metadata names what it lacks."""
    safetensors.torch.save_file({"weight": torch.ones(3)}, path)
    with pytest.raises(CheckpointError, match="has no '__metadata__' in its metadata; it is not a checkpoint of this"):
        read_checkpoint(path)
    safetensors.torch.save_file({"weight": torch.ones(3)}, path, {"format": "pt"})
    with pytest.raises(CheckpointError, match="has no 'classifier' in its metadata"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format is 2, but this version reads format 1"),
        ({"labels": ["a", "b"]}, "labels has 2 names, but the weights have 3 classes"),
        ({"labels": ["a", "b", "a"]}, "labels has 'a' 2 times, but must be unique and not empty"),
        ({"colour": "blue"}, "colour is not a field of this format"),
        ({"golden": None}, "golden is None, but must be an object"),
        ({"golden": {"image": "AA", "logits": [1, 2, 3]}}, "golden.image .* must be base64 text|golden has an image"),
        ({"golden": {"image": "", "logits": [1, 2, 3]}}, "golden has an image that cannot be decoded"),
        ({"golden": {"image": huge_png(), "logits": [1, 2, 3]}}, "golden has an image that is too large, but must"),
        (
            {"metrics": {"val": {"accuracy": float("nan")}}},
            r"metrics\.val\.accuracy is nan, but must be a finite number",
        ),
        ({"history": [{"loss": 1}, {"loss": float("inf")}]}, r"history\.1\.loss is inf, but must be a finite number"),
        ({"recipe": {"lr": [0.1, float("-inf")]}}, r"recipe\.lr\.1 is -inf, but must be a finite number"),
        ({"recipe": {"a": {"\udc80": 1}}}, r"recipe\.a has the key '.udc80', but keys must be Unicode text"),
        ({"metrics": {"val": 5}}, r"metrics\.val is 5, but must be an object"),
        ({"metrics": {"float": {"int": "x"}}}, r"metrics\.float\.int is 'x', but must be a number"),
        ({"seed": "x" * 1000}, r"seed is 'x+\.\.\.x+', but must be a whole number"),
        ({"seed": 1.5}, "seed is 1.5, but must be a whole number"),
        ({"temperature": 1e-300}, r"temperature is 1e-300, but must lie in 1e-6\.\.1e6"),
        ({"format": True}, "format is True, but this version reads format 1"),
        ({"temperature": "hot"}, "has metadata that cannot be used"),
        ({"calibration": {}}, "calibration.kind is missing"),
        ({"labels": ["a", "b", 3]}, r"toy\.safetensors: .* labels.2 is 3, but must be text"),
        ({"labels": ["a", "b", "\ud800"]}, r"cannot be used: labels.2 is '.ud800', but must be Unicode text"),
        (
            {"calibration": dataclasses.asdict(CALIBRATION) | {"images": 2**64}},
            "calibration.images is a whole number beyond 64 bits, but must lie",
        ),
        (
            {"architecture": dataclasses.asdict(ARCHITECTURE) | {"head": "blog"}},
            "head is 'blog', which is now called 'linear'",
        ),
        ({"labels": None}, "labels is None, but must be a list"),
        ({"created_at": "yesterday"}, "created_at is 'yesterday', but must be an ISO 8601 date"),
        ({"created_at": 5}, "created_at is 5, but must be text"),
        ({"temperature": float("nan")}, "temperature is nan, but must be a finite number"),
        ({"metrics": {"val": {"accuracy": "high"}}}, r"metrics\.val\.accuracy is 'high', but must be a number"),
        ({"architecture": {"name": "vgg11_bn"}}, "architecture.num_classes is missing"),
        (
            {"dataset": {"a": json.loads("[" * 300 + "]" * 300)}},
            "dataset is nested too deeply, but must have at most 64 levels",
        ),
        ({"calibration": [1, 2]}, "has metadata that cannot be used"),
        ({"calibration": dataclasses.asdict(CALIBRATION) | {"kind": "raps"}}, "kind is 'raps', but must be one of"),
        ({"calibration": dataclasses.asdict(CALIBRATION) | {"scores": ["a"] * 3}}, "has metadata that cannot"),
        ({"calibration": dataclasses.asdict(CALIBRATION) | {"colour": 1}}, "calibration.colour is not a field"),
    ],
)
def test_metadata_that_cannot_be_used_is_refused(
    changes: dict[str, Any], message: str, path: Path, sound: bytes
) -> None:
    """A whole file whose document is of another format or contradicts itself is refused with the reason."""
    path.write_bytes(forged(document_of(sound) | changes, network().state_dict()))
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)


def test_forging_nothing_is_accepted(path: Path, sound: bytes) -> None:
    """The documented hash, computed anew from the document and the tensors, is the file's own."""
    path.write_bytes(forged(document_of(sound), network().state_dict()))
    assert read_checkpoint(path).metadata.labels == metadata().labels


@pytest.mark.parametrize(
    ("name", "tensor", "fault"),
    [
        ("head.2.weight", torch.zeros(3, 9), r"tensor head\.2\.weight is \(3, 9\), but the architecture has \(3, 8\)"),
        ("head.2.bias", None, r"tensor head\.2\.bias is missing, but the architecture has \(3,\)"),
        ("head.9.bias", torch.zeros(3), r"tensor head\.9\.bias is \(3,\), but the architecture has none"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    name: str, tensor: torch.Tensor | None, fault: str, path: Path, sound: bytes
) -> None:
    """A tensor of another shape, a missing and an extra one are named, with what was expected."""
    found = read_checkpoint(path)
    state = {key: value for key, value in found.state.items() if key != name}
    if tensor is not None:
        state[name] = tensor
    with pytest.raises(CheckpointError, match=fault):
        restore_model(dataclasses.replace(found, state=state))


def test_an_architecture_that_cannot_be_built_is_refused(path: Path, sound: bytes) -> None:
    """A metadata can be sound in itself and name a size that the network cannot have."""
    found = read_checkpoint(path)
    crooked = dataclasses.replace(
        found.metadata,
        architecture=dataclasses.replace(ARCHITECTURE, input_size=33),
        preprocessing=dataclasses.replace(PREPROCESSING, size=33),
    )
    with pytest.raises(CheckpointError, match="cannot be built: input_size is 33"):
        restore_model(Checkpoint(path, crooked, found.state, found.version))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ("a", "b")}, "labels has 2 names, but the weights have 3 classes"),
        ({"labels": ("a", "b", "b")}, "labels has 'b' 2 times, but must be unique and not empty"),
        ({"labels": ("a", "b", "")}, "labels has '' 1 times, but must be unique and not empty"),
        (
            {"preprocessing": dataclasses.replace(PREPROCESSING, size=36)},
            "preprocessing gives 36 pixels and 3 channels",
        ),
        ({"golden": GoldenSample(b"", (1.0, 2.0))}, "golden has 2 logits, but there are 3 classes"),
        (
            {"golden": GoldenSample(b"", (1.0, 2.0, float("nan")))},
            "golden has the logits .*nan.*, but must have finite ones",
        ),
        ({"temperature": 0.0}, "temperature is 0.0, but must lie in 1e-6..1e6"),
        ({"temperature": float("inf")}, "temperature is inf, but must lie in 1e-6..1e6"),
    ],
)
def test_impossible_metadata_is_refused(changes: dict[str, Any], message: str) -> None:
    """What contradicts itself is never written: fields are refused by name, value and range."""
    with pytest.raises(ValueError, match=f"^{message}"):
        metadata(**changes)


def fail(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("owner", "step"), [(os, "fsync"), (Path, "replace")])
def test_a_failed_write_leaves_everything_as_it_was(
    owner: Any, step: str, path: Path, sound: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever step of writing fails, the old file stays whole and nothing is left beside it."""
    monkeypatch.setattr(owner, step, fail)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(path, metadata(seed=8), network())
    monkeypatch.undo()
    assert path.read_bytes() == sound
    assert list(path.parent.iterdir()) == [path]


def test_writing_replaces_and_makes_folders(tmp_path: Path) -> None:
    """A new file takes the old one's name, in a folder that is made if need be."""
    path = tmp_path / "new" / "folder" / "a.safetensors"
    first = write_checkpoint(path, metadata(seed=1), network())
    second = write_checkpoint(path, metadata(seed=2), network())
    assert first != second == read_checkpoint(path).version
    assert list(path.parent.iterdir()) == [path]


def test_the_file_appears_only_when_it_is_on_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The contents are synced before the name is given, and the folder after."""
    real, seen = os.fsync, []

    def fsync(descriptor: int) -> None:
        seen.append(path.exists())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_checkpoint(path, metadata(), network())
    assert seen == [False, True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"metrics": {"val": {"accuracy": float("nan")}}},
            r"metrics\.val\.accuracy is nan, but must be a finite number",
        ),
        ({"metrics": {"\udce9": {}}}, r"metrics has the key '.udce9', but keys must be Unicode text"),
        ({"history": ({"loss": float("inf")},)}, r"history\.0\.loss is inf, but must be a finite number"),
        ({"recipe": {"lr": float("-inf")}}, r"recipe\.lr is -inf, but must be a finite number"),
        ({"recipe": {"init": "caf\udce9"}}, r"recipe\.init is 'caf.udce9', but must be Unicode text"),
        ({"dataset": {"name": "caf\udce9"}}, r"dataset\.name is 'caf.udce9', but must be Unicode text"),
        ({"dataset": {"splits": {1: 2}}}, r"dataset\.splits has the key 1, but keys must be Unicode text"),
        ({"recipe": {"out": Path()}}, "recipe.out is a PosixPath, but must be text, a number, a list or an object"),
        ({"seed": 2**63}, "seed is a whole number beyond 64 bits, but must lie in"),
        ({"versions": {"torch": "\udce9"}}, r"versions\.torch is '.udce9', but must be Unicode text"),
    ],
)
def test_values_that_no_reader_could_use_are_not_written(changes: dict[str, Any], message: str) -> None:
    """Numbers that are not finite and text that UTF-8 cannot encode are refused, with the field's name."""
    with pytest.raises(ValueError, match=f"^{message}"):
        metadata(**changes)


def test_a_label_that_is_no_unicode_text_is_refused() -> None:
    """A lone surrogate, as in a file name that is not UTF-8, can be in no answer."""
    with pytest.raises(ValueError, match=r"labels has .*udce9.*, but must be Unicode text"):
        metadata(labels=("a", "b\udce9", "c"))
