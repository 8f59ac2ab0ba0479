"""Tensors of the Open Inference Protocol, as JSON and as bytes.

Owns both encodings of its datatypes FP32 and BYTES. As bytes, elements stand in row-major order, little-endian; each
element of BYTES follows its length in 4 bytes (Triton's binary tensor data extension). In JSON, an element of BYTES
that we read is base64, because JSON has no bytes.
"""

import math
import struct
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import BadRequest
from app.protocols.bodies import decode_base64
from app.protocols.errors import quote

Floats = NDArray[np.float32]
LENGTH = struct.Struct("<I")
FLOAT = np.dtype("<f4")
LARGEST = 1e6  # of a value; normalised pixels are at most 1 / std, which is about 5
STEP = 2**15  # numbers that are converted at once: some milliseconds, in which no other thread runs
MAX_DEPTH = 16  # of nested lists; a tensor of ours has 4 dimensions


def split_strings(data: bytes | memoryview, count: int, name: str) -> list[bytes]:
    """The `count` elements of a BYTES tensor. Raises BadRequest if the data are not exactly that."""
    strings: list[bytes] = []
    end = 0
    for _ in range(count):
        start = end + LENGTH.size
        if start > len(data):
            raise BadRequest(f"The binary data of {quote(name)} end before element {len(strings)} of {count}.")
        end = start + LENGTH.unpack_from(data, start - LENGTH.size)[0]
        if end > len(data):
            raise BadRequest(f"Element {len(strings)} of {quote(name)} is longer than the binary data.")
        strings.append(bytes(data[start:end]))
    if end < len(data):
        raise BadRequest(f"The binary data of {quote(name)} have {len(data) - end} bytes behind the last element.")
    return strings


def join_strings(strings: Sequence[bytes]) -> bytes:
    """The binary form of a BYTES tensor."""
    return b"".join(chain.from_iterable((LENGTH.pack(len(string)), string) for string in strings))


def read_floats(data: bytes | memoryview, shape: Sequence[int], name: str) -> Floats:
    """A FP32 tensor of that shape, which shares the memory of `data`. Raises BadRequest for another size."""
    if len(data) != math.prod(shape) * FLOAT.itemsize:
        expected = f"{math.prod(shape) * FLOAT.itemsize} for FP32 of shape {list(shape)}"
        raise BadRequest(f"The binary data of {quote(name)} have {len(data)} bytes, but must have {expected}.")
    return _check_range(np.frombuffer(data, FLOAT).reshape(shape), name)


def parse_floats(data: Any, shape: Sequence[int], name: str) -> Floats:
    """A FP32 tensor from nested or flat lists of numbers. Raises BadRequest for anything else."""
    flat = _flatten(data, math.prod(shape), name)
    tensor = np.empty(len(flat), np.float32)
    for start in range(0, len(flat), STEP):
        part = flat[start : start + STEP]
        if not set(map(type, part)) <= {int, float}:
            raise BadRequest(f"The data of {quote(name)} must be numbers.")
        with np.errstate(over="ignore"):  # too large a number becomes infinite
            tensor[start : start + STEP] = np.array(part, np.float64)
    return _check_range(tensor.reshape(shape), name)


def parse_strings(data: Any, count: int, name: str) -> list[bytes]:
    """The elements of a BYTES tensor from lists of base64 strings. Raises BadRequest for anything else."""
    flat = _flatten(data, count, name)
    if not all(isinstance(item, str) for item in flat):
        raise BadRequest(f"The data of {quote(name)} must be strings of base64.")
    return [decode_base64(text, f"Element {index} of {quote(name)}") for index, text in enumerate(flat)]


def _flatten(data: Any, count: int, name: str) -> list[Any]:
    if not isinstance(data, list):
        raise BadRequest(f"The data of {quote(name)} must be a list.")
    flat: list[Any] = data
    for _ in range(MAX_DEPTH):
        if not (flat and isinstance(flat[0], list)):
            break
        if not all(isinstance(item, list) for item in flat):
            raise BadRequest(f"The lists in the data of {quote(name)} are not equally deep.")
        flat = list(chain.from_iterable(flat))
    if len(flat) != count:
        raise BadRequest(f"The data of {quote(name)} have {len(flat)} elements, but their shape says {count}.")
    return flat


def _check_range(tensor: Floats, name: str) -> Floats:
    """Beyond the range a network's values may become infinite. The minimum of a tensor with a NaN is NaN."""
    if not (tensor.min() >= -LARGEST and tensor.max() <= LARGEST):
        raise BadRequest(f"The values of {quote(name)} must be finite and lie in -{LARGEST:g}..{LARGEST:g}.")
    return tensor
