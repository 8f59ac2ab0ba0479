"""The only reader and writer of checkpoints: one .safetensors file that describes itself.

Owns the file format: the weights, one JSON document under the metadata key `classifier`, and under
`sha256` a hash over that document and every tensor, so that a single flipped bit is refused.
"""

import base64
import dataclasses
import hashlib
import json
import math
import platform
import reprlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any

import safetensors
import safetensors.torch
import torch
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor, nn

from models.files import FileContents, read_file, replace_atomically
from models.golden import GoldenSample
from models.networks.registry import Architecture, build_network
from models.preprocess import Preprocessing
from models.probabilities import Calibration

FORMAT = 1
DOCUMENT_KEY, HASH_KEY = "classifier", "sha256"
VERSION_DIGITS = 12
# Counts stay integers. Those beyond 2^53, which not every reader of JSON keeps exact, are read as floats.
Number = Annotated[int, Field(ge=-(2**53), le=2**53)] | float
PICKLES = (b"PK\x03\x04", b"\x80")  # how files of torch.save start: a zip of a pickle, or a bare one


class CheckpointError(ValueError):
    """A checkpoint that cannot be used. The message is one line that names the file and the fault."""

    def __init__(self, path: Path, fault: str) -> None:
        super().__init__(f"{path}: {fault}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    libraries = {name: installed_version(name) for name in ("torch", "pillow", "numpy", "safetensors")}
    return {"python": platform.python_version(), **libraries}


def is_unicode_text(label: str) -> bool:
    """Whether UTF-8 can encode the label. A folder's name that is not UTF-8 has lone surrogates, which it cannot."""
    try:
        label.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointMetadata:
    """All that a checkpoint says beside its weights.

    `labels` are the classes' names by index, unique. `metrics` maps the split they were measured on
    to names and values. `history` has one record an epoch. `dataset` holds its name, fingerprint and
    split sizes, `recipe` every setting of the training run. `calibration` is None where none was made; it
    was made with this `temperature`. Raises ValueError, naming the field, its value and the allowed range.
    """

    architecture: Architecture
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    golden: GoldenSample
    temperature: float = 1.0
    calibration: Calibration | None = None
    metrics: dict[str, dict[str, Number]] = field(default_factory=dict)
    history: tuple[dict[str, Number], ...] = ()
    dataset: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    versions: dict[str, str] = field(default_factory=_versions)
    created_at: str = field(default_factory=_now)

    def __post_init__(self) -> None:
        a, p = self.architecture, self.preprocessing
        if len(self.labels) != a.num_classes:
            raise ValueError(f"labels has {len(self.labels)} names, but the weights have {a.num_classes} classes")
        if bad := [label for label, count in Counter(self.labels).items() if count > 1 or not label]:
            raise ValueError(
                f"labels has {bad[0]!r} {self.labels.count(bad[0])} times, but must be unique and not empty"
            )
        if bad := [label for label in self.labels if not is_unicode_text(label)]:
            raise ValueError(f"labels has {bad[0]!r}, but must be Unicode text")
        if (p.size, p.channels) != (a.input_size, a.in_channels):
            raise ValueError(
                f"preprocessing gives {p.size} pixels and {p.channels} channels, "
                f"but the network takes {a.input_size} and {a.in_channels}"
            )
        if len(self.golden.logits) != a.num_classes:
            raise ValueError(f"golden has {len(self.golden.logits)} logits, but there are {a.num_classes} classes")
        if not all(map(math.isfinite, self.golden.logits)):
            raise ValueError(f"golden has the logits {self.golden.logits}, but must have finite ones")
        try:
            datetime.fromisoformat(self.created_at)
        except ValueError as error:
            raise ValueError(f"created_at is {self.created_at!r}, but must be an ISO 8601 date and time") from error
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature is {self.temperature}, but must be positive and finite")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`state` maps tensor names to float32 weights; `version` is the file's own short hash."""

    path: Path
    metadata: CheckpointMetadata
    state: dict[str, Tensor]
    version: str


def write_checkpoint(path: Path, metadata: CheckpointMetadata, model: nn.Module) -> str:
    """Writes `model`'s weights and `metadata`, all or nothing, and returns the version.

    The file appears under its name only when it is complete and on the disk. Raises OSError.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    document = _to_json(metadata)
    data = safetensors.torch.save(state, {DOCUMENT_KEY: document, HASH_KEY: _hash(document, state)})
    with replace_atomically(path) as file:
        file.write(data)
    return hashlib.sha256(data).hexdigest()[:VERSION_DIGITS]


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads and checks a checkpoint. Raises CheckpointError if it cannot be read or is not sound."""
    try:
        contents = read_file(path)  # read once: the bytes that are hashed are the bytes that are loaded
    except OSError as error:
        raise CheckpointError(path, (error.strerror or str(error)).lower()) from error
    return parse_checkpoint(path, contents)


def parse_checkpoint(path: Path, contents: FileContents) -> Checkpoint:
    """Checks `contents`, which were read from `path`. Raises CheckpointError if they are not a sound checkpoint."""
    data = contents.data
    try:
        state = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        document, expected = (header["__metadata__"][key] for key in (DOCUMENT_KEY, HASH_KEY))
    except (safetensors.SafetensorError, ValueError) as error:
        if data.startswith(PICKLES):  # asked only now: one sound file in 32 starts with the byte 0x80 as well
            fault = "is a pickle, which is never loaded; make a checkpoint of it with models.convert"
            raise CheckpointError(path, fault) from error
        raise CheckpointError(path, f"is not a whole safetensors file ({error})") from error
    except KeyError as error:
        raise CheckpointError(
            path, f"has no {error} in its metadata; it is not a checkpoint of this project"
        ) from error
    if _hash(document, state) != expected:
        raise CheckpointError(path, "is damaged: its contents do not match the hash that it carries")
    try:
        metadata = _from_json(document)
    except ValueError as error:
        raise CheckpointError(path, f"has metadata that cannot be used: {error}") from error
    return Checkpoint(path, metadata, state, contents.sha256[:VERSION_DIGITS])


def restore_model(checkpoint: Checkpoint) -> nn.Module:
    """The network with the checkpoint's weights, in evaluation mode, in float32 on the CPU.

    Raises CheckpointError if the weights do not fit the architecture.
    """
    try:
        with torch.device("meta"):  # no memory is touched or initialised for weights that are replaced
            model = build_network(checkpoint.metadata.architecture)
    except ValueError as error:
        raise CheckpointError(checkpoint.path, f"has an architecture that cannot be built: {error}") from error
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in checkpoint.state.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            fault = (
                f"tensor {name} is {found.get(name, 'missing')}, but the architecture has {wanted.get(name, 'none')}"
            )
            raise CheckpointError(checkpoint.path, fault)
    model.load_state_dict(checkpoint.state, assign=True)
    return model.eval()


def _hash(document: str, state: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(document.encode())
    for name in sorted(state):
        tensor = state[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _to_json(metadata: CheckpointMetadata) -> str:
    document = {"format": FORMAT, **dataclasses.asdict(metadata)}
    document["golden"]["image"] = base64.b64encode(metadata.golden.image).decode()
    return json.dumps(document)


def _from_json(text: str) -> CheckpointMetadata:
    try:
        document = json.loads(text)
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error
    found = document.pop("format", None) if isinstance(document, dict) else None
    if found != FORMAT:
        raise ValueError(f"format is {found}, but this version reads format {FORMAT}")
    # Parsed again from JSON: there, pydantic's strict mode takes a list for a tuple, and refuses lone surrogates.
    try:
        return TypeAdapter(CheckpointMetadata).validate_json(json.dumps(document), strict=True, extra="forbid")
    except ValidationError as error:
        raise ValueError(_describe_fault(error)) from error


def _describe_fault(error: ValidationError) -> str:
    """The first fault in one line: the field, its value (shortened) and what it must be."""
    first = error.errors(include_url=False)[0]
    field_name = ".".join(map(str, first["loc"]))
    if first["type"] == "value_error":  # raised by a dataclass here, which names field, value and range itself
        return f"{field_name}: {first['ctx']['error']}" if field_name else str(first["ctx"]["error"])
    value = "" if first["type"] in ("missing", "json_invalid") else f" is {reprlib.repr(first['input'])}:"
    return f"{field_name or 'JSON'}{value} {first['msg']}"
