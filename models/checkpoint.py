"""The only reader and writer of checkpoints: one .safetensors file that describes itself.

Owns the file format: the weights, one JSON document under the metadata key `classifier`, and under
`sha256` a hash over that document and every tensor, so that a single flipped bit is refused.
"""

import hashlib
import json
import stat
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from models.documents import escape_unprintable
from models.files import FileContents, read_file, replace_atomically
from models.golden import golden_pixels
from models.metadata import CheckpointMetadata, metadata_from_json, metadata_to_json
from models.networks.registry import build_network

DOCUMENT_KEY, HASH_KEY = "classifier", "sha256"
VERSION_DIGITS = 12
MAX_HEADER_BYTES = 2**24  # metadata of 1,000 labels and 10,000 epochs takes 2 MiB
MAX_FAULT = 800  # characters of a message; names in a file may be of any length
PICKLES = (b"PK\x03\x04", b"\x80")  # how files of torch.save start: a zip of a pickle, or a bare one


class CheckpointError(ValueError):
    """A checkpoint that cannot be used. The message is one line that names the file and the fault."""

    def __init__(self, path: Path, fault: str) -> None:
        line = escape_unprintable(fault)
        shown = line if len(line) <= MAX_FAULT else f"{line[: MAX_FAULT // 2]} ... {line[-MAX_FAULT // 2 :]}"
        super().__init__(f"{escape_unprintable(str(path))}: {shown}")


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
    document = metadata_to_json(metadata)
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


def is_checkpoint(path: Path) -> bool:
    """Whether it is a regular file whose header is that of a checkpoint. Reads nothing else. Raises OSError."""
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would wait
        return False
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(length) if length <= MAX_HEADER_BYTES else b""
    try:
        return DOCUMENT_KEY in json.loads(text).get("__metadata__", {})
    except (ValueError, RecursionError, AttributeError, TypeError):
        return False


def parse_checkpoint(path: Path, contents: FileContents) -> Checkpoint:
    """Checks `contents`, which were read from `path`. Raises CheckpointError if they are not a sound checkpoint."""
    data = contents.data
    header_bytes = int.from_bytes(data[:8], "little")
    try:
        if header_bytes > MAX_HEADER_BYTES:  # parsed, each byte can take thirty
            raise ValueError(f"its header has {header_bytes} bytes, but must have at most {MAX_HEADER_BYTES}")
        # Before it allocates, the library checks shapes against offsets, and offsets against the file's size.
        state = _load_tensors(data)
        header = json.loads(data[8 : 8 + header_bytes])
        document, expected = (header["__metadata__"][key] for key in (DOCUMENT_KEY, HASH_KEY))
    except (safetensors.SafetensorError, ValueError, RecursionError) as error:
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
        metadata = metadata_from_json(document)
        golden_pixels(metadata.golden.image, metadata.preprocessing)
    except ValueError as error:
        raise CheckpointError(path, f"has metadata that cannot be used: {error}") from error
    return Checkpoint(path, metadata, state, contents.sha256[:VERSION_DIGITS])


def _load_tensors(data: bytes) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(data)
    except KeyError as error:  # the format has types that torch has not
        raise ValueError(f"its tensors have the type {error}, which is not read") from error


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
