"""Directories of TIFF 6.0, which EXIF uses too: reading the fields that are wanted, and writing new ones.

Owns field types and byte orders. A field that is not wanted costs its twelve bytes, whatever it claims to hold.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# By TIFF's number of a type: struct's letter. Rationals are two integers.
LETTERS = {1: "B", 3: "H", 4: "I", 5: "II", 6: "b", 7: "B", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d", 13: "I"}
BIG_LETTERS = {16: "Q", 17: "q", 18: "Q"}  # of BigTIFF
MAX_FIELDS = 65_536
ORIENTATION = 274
BYTE_ORDERS = {b"II": "<", b"MM": ">"}


@dataclass(frozen=True, slots=True)
class Directory:
    """A file's first directory.

    `order` is struct's sign of the byte order, and `fields` maps tags to their type, count of values, and offset.
    """

    data: bytes
    order: str
    fields: dict[int, tuple[int, int, int]]

    def values(self, tag: int, limit: int = 65_536) -> tuple[float, ...]:
        """The field's first values, at most `limit`; of a rational both numbers; none if it is missing or cut off."""
        kind, count, offset = self.fields.get(tag, (0, 0, 0))
        letter = LETTERS.get(kind) or BIG_LETTERS.get(kind, "")
        size = struct.calcsize("<" + letter)
        if not letter or offset + min(count, limit) * size > len(self.data):
            return ()
        wanted = min(count, limit) * len(letter)
        return struct.unpack_from(f"{self.order}{wanted}{letter[0]}", self.data, offset)

    def integers(self, tag: int, limit: int) -> tuple[int, ...]:
        """The field's first values as whole numbers; none if one is negative or not finite."""
        values = self.values(tag, limit)
        return tuple(map(int, values)) if all(0 <= value < 2**32 for value in values) else ()

    def octets(self, tag: int, limit: int) -> bytes | None:
        """The field's bytes, or None if it is missing, cut off, longer than `limit`, or not of bytes."""
        kind, count, offset = self.fields.get(tag, (0, 0, 0))
        if kind not in (1, 7) or not 0 < count <= limit or offset + count > len(self.data):
            return None
        return self.data[offset : offset + count]

    def integer(self, tag: int, default: int) -> int:
        """The field's first value, or `default` if it has none."""
        return next(iter(self.integers(tag, 1)), default)


def read_directory(data: bytes, wanted: frozenset[int]) -> Directory | None:
    """The wanted fields of the first directory of a TIFF file, or None where there is no directory.

    Of fields with the same tag the first counts.
    """
    order = BYTE_ORDERS.get(data[:2], "")
    try:
        is_big = bool(order) and struct.unpack_from(order + "H", data, 2)[0] == 43
        start = struct.unpack_from(order + ("Q" if is_big else "I"), data, 8 if is_big else 4)[0]
        count = struct.unpack_from(order + ("Q" if is_big else "H"), data, start)[0]
    except (struct.error, OverflowError):  # beyond the file, or beyond what a 64-bit offset may be
        return None
    if not order:
        return None
    start += 8 if is_big else 2
    entry = struct.Struct(order + ("HHQQ" if is_big else "HHII"))
    inline = entry.size - (8 if is_big else 4)  # where an entry keeps its values, or where they lie
    fields: dict[int, tuple[int, int, int]] = {}
    for at in range(start, start + min(count, MAX_FIELDS) * entry.size, entry.size):
        if at + entry.size > len(data):
            break
        tag, kind, values, offset = entry.unpack_from(data, at)
        if tag in wanted and tag not in fields:
            letter = LETTERS.get(kind) or BIG_LETTERS.get(kind, "")
            fits = values * struct.calcsize("<" + letter) <= entry.size - inline
            fields[tag] = (kind, values, at + inline if fits else offset)
    return Directory(data, order, fields)


def write_file(order: str, blocks: Sequence[memoryview], fields: Mapping[int, tuple[int, Sequence[float]]]) -> bytes:
    """A TIFF file of the eight bytes that begin it, the blocks, and one directory.

    `fields` maps tags to a type and values. The first block lies at offset 8, each other behind the one before.
    """
    end = 8 + sum(map(len, blocks))
    padding = end % 2
    directory, extra = bytearray(struct.pack(order + "H", len(fields))), bytearray()
    behind = end + padding + 2 + 12 * len(fields) + 4
    for tag, (kind, values) in sorted(fields.items()):
        letters = LETTERS[kind]
        packed = struct.pack(f"{order}{len(values)}{letters[0]}", *values)
        count = len(values) // len(letters)
        if len(packed) > 4:
            place = behind + len(extra)
            extra += packed + bytes(len(packed) % 2)
            packed = struct.pack(order + "I", place)
        directory += struct.pack(order + "HHI4s", tag, kind, count, packed)
    mark = next(name for name, sign in BYTE_ORDERS.items() if sign == order)
    head = mark + struct.pack(order + "HI", 42, end + padding)
    return b"".join([head, *blocks, bytes(padding), directory, bytes(4), extra])


def read_orientation(exif: bytes) -> int:
    """The orientation, 1 to 8, that an EXIF block gives; 1 where it gives none or is broken."""
    directory = read_directory(exif.removeprefix(b"Exif\0\0"), frozenset({ORIENTATION}))
    orientation = directory.integer(ORIENTATION, 1) if directory else 1
    return orientation if 1 <= orientation <= 8 else 1
