"""TIFF files of any kind of samples, written field by field."""

import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from numpy.typing import NDArray

SHORT, LONG, FLOAT, DOUBLE = 3, 4, 11, 12
LETTERS = {1: "B", 2: "c", SHORT: "H", LONG: "I", 7: "B", FLOAT: "f", DOUBLE: "d"}
Order = Literal["<", ">"]
Fields = Mapping[int, tuple[int, Sequence[Any]]]


def write_tiff(fields: Fields, data: bytes, order: Order = "<") -> bytes:
    """A file of one directory: `data` lies at offset 8. `fields` maps tags to a type and values."""
    end = 8 + len(data) + len(data) % 2
    behind = end + 2 + 12 * len(fields) + 4
    directory, extra = struct.pack(order + "H", len(fields)), b""
    for tag, (kind, values) in sorted(fields.items()):
        packed = struct.pack(f"{order}{len(values)}{LETTERS[kind]}", *values)
        if len(packed) > 4:
            packed, extra = struct.pack(order + "I", behind + len(extra)), extra + packed + bytes(len(packed) % 2)
        directory += struct.pack(order + "HHI4s", tag, kind, len(values), packed)
    mark = b"II" if order == "<" else b"MM"
    return mark + struct.pack(order + "HI", 42, end) + data + bytes(len(data) % 2) + directory + bytes(4) + extra


def tiff_of(samples: NDArray[Any], order: Order = "<", *, deflate: bool = False, **changes: Any) -> bytes:
    """(H, W) or (H, W, C) samples as one strip; `changes` are fields by tag, as `tag_258=(SHORT, [12])`."""
    kinds = {"u": 1, "i": 2, "f": 3}
    bits, channels = samples.dtype.itemsize * 8, 1 if samples.ndim == 2 else samples.shape[2]
    data = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    data = zlib.compress(data) if deflate else data
    fields: dict[int, tuple[int, Sequence[Any]]] = {
        256: (LONG, [samples.shape[1]]),
        257: (LONG, [samples.shape[0]]),
        258: (SHORT, [bits] * channels),
        259: (SHORT, [8 if deflate else 1]),
        262: (SHORT, [1 if channels == 1 else 2]),
        273: (LONG, [8]),
        277: (SHORT, [channels]),
        278: (LONG, [samples.shape[0]]),
        279: (LONG, [len(data)]),
        339: (SHORT, [kinds[samples.dtype.kind]] * channels),
    }
    fields |= {int(tag.removeprefix("tag_")): field for tag, field in changes.items()}
    return write_tiff(fields, data, order)
