"""What a file seems to be, from its first bytes, for a message about a file that holds no weights.

Owns the signatures.
"""

import re
import zipfile
from pathlib import Path

from models.image_formats import FORMATS, recognise_format

HEAD_BYTES = 1024
SIGNATURES: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    ("a Git LFS pointer, not the file itself; fetch it with git lfs pull", re.compile(rb"version https://git-lfs")),
    ("an HTML page, not a file of weights; download it again", re.compile(rb"\s*<(!doctype|html|head|\?xml)", re.I)),
    ("an HDF5 file, as Keras writes them", re.compile(rb"\x89HDF")),
    ("a gzip archive; unpack it first", re.compile(rb"\x1f\x8b")),
    ("an xz archive; unpack it first", re.compile(rb"\xfd7zXZ")),
    ("a zstd archive; unpack it first", re.compile(rb"\x28\xb5\x2f\xfd")),
    ("a 7z archive; unpack it first", re.compile(rb"7z\xbc\xaf")),
    ("a tar archive; unpack it first", re.compile(rb".{257}ustar", re.DOTALL)),
    ("a NumPy array", re.compile(rb"\x93NUMPY")),
    ("a GGUF file", re.compile(rb"GGUF")),
    ("an ONNX file", re.compile(rb"\x08[\x01-\x20]\x12.{0,64}(pytorch|onnx|keras|skl|tf)", re.DOTALL)),
    ("a JSON text, such as the index of weights in several files", re.compile(rb"\s*\{\s*\"")),
)


def is_safetensors(path: Path) -> bool:
    """Whether the file begins as safetensors files do: the length of a header, and JSON. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(9)
        size = file.seek(0, 2)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") <= size - 8


def describe_file(path: Path) -> str | None:
    """What the file seems to be, in words, or None for what torch.save and safetensors write. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        return "an empty file"
    if head.startswith(b"PK") and zipfile.is_zipfile(path):
        return _describe_zip(path)
    if is_safetensors(path) or head.startswith((b"\x80", b"PK")):
        return None
    for what, signature in SIGNATURES:
        if signature.match(head):
            return what
    if image := recognise_format(head):
        return f"an image ({FORMATS[image].name})"
    if head[:40].isascii() and head[:40].decode().replace("\n", " ").isprintable():
        return f"a text that begins with {head[:40].decode()!r}"
    return None


def _describe_zip(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    inner = [name.partition("/")[2] for name in names]
    if "data.pkl" in inner:
        return "a TorchScript archive; save model.state_dict() instead" if "constants.pkl" in inner else None
    if any(name.endswith(".npy") for name in names):
        return "a NumPy archive (.npz)"
    if "model.weights.h5" in names:
        return "a Keras file"
    return (
        f"a zip archive of {len(names)} files, such as {names[0]!a}; unpack it first" if names else "an empty zip file"
    )
