"""What the server and a decoder process send to each other over their socket.

A job is JOB, the image file's bytes, and for DRAW the heat map's. A reply is REPLY and its payload. Neither side
unpickles anything: the decoder reads untrusted bytes, and so the server does not trust what the decoder sends.
"""

import json
import struct
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from app.errors import ImageTooLarge, Internal, Overloaded, ServiceError, UndecodableImage, UnsupportedFormat
from models.heat_picture import MAX_PICTURE_PIXELS
from models.preprocess import Pixels, Preprocessing

# The work, bytes of memory that the decoder may take, bytes of the file, and rows and columns of the heat map.
JOB = struct.Struct("<BQQHH")
DECODE, DECODE_SIZED, DRAW = range(3)  # works: the network's pixels; these and the image's size; a heat map's picture
REPLY = struct.Struct("<BIQ")  # the kind, the image library's warnings, bytes of the payload
# Kinds: the answers to the three works, an error, and COST.
PIXELS, SIZED_PIXELS, PICTURE, ERROR, COSTLY = range(5)
SIZE = struct.Struct("<QQ")  # width and height of the upright image, before the pixels of SIZED_PIXELS
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# A PNG of noise: 3 bytes a pixel, a byte for each row, which may be of one pixel, and what zlib and chunks add.
MAX_PICTURE_BYTES = 4 * MAX_PICTURE_PIXELS + MAX_PICTURE_PIXELS // 64 + 2**16
COST = struct.Struct("<Q")  # bytes of memory that decoding is estimated to take
MAX_ERROR_BYTES = 4096
# Memory that a decoder may take without asking, in bytes beside the file itself. A file that needs more waits until the
# memory of all costly files leaves room for it.
FREE_BYTES = 64 * 2**20
# What all costly files together may take: as much as one with the most pixels, decoded to 4 bytes a pixel and copied
# three times (turned, put on white, converted).
COSTLY_BYTES_PER_PIXEL = 16
ERRORS: dict[str, type[ServiceError]] = {
    error.code: error for error in (ImageTooLarge, Overloaded, UndecodableImage, UnsupportedFormat)
}


@dataclass(frozen=True, slots=True)
class Task:
    """What a decoder does with every file: the network's preprocessing, and the limit of pixels of an image."""

    preprocessing: Preprocessing
    max_image_pixels: int

    @property
    def costly_bytes(self) -> int:
        """The memory that all costly files together may take, in bytes."""
        return COSTLY_BYTES_PER_PIXEL * self.max_image_pixels

    @property
    def largest_cost(self) -> int:
        """The memory that one file may take at most, in bytes."""
        return FREE_BYTES + self.costly_bytes

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def parse_task(data: bytes) -> Task:
    """The task in the bytes of `Task.to_json`."""
    document = json.loads(data)
    fields: dict[str, Any] = document["preprocessing"]
    preprocessing = Preprocessing(**{**fields, "mean": tuple(fields["mean"]), "std": tuple(fields["std"])})
    return Task(preprocessing, document["max_image_pixels"])


@dataclass(frozen=True, slots=True)
class Order:
    """One job: what is done with the file's bytes, and the `granted` bytes of memory for it.

    `heat` is the (rows, columns) uint8 heat map of DRAW, and empty for the other works.
    """

    work: int
    data: bytes
    granted: int = 0
    heat: Pixels = field(default_factory=lambda: np.zeros((0, 0), np.uint8))

    def to_pieces(self) -> tuple[bytes, ...]:
        """The job's bytes, in pieces."""
        rows, columns = self.heat.shape
        return JOB.pack(self.work, self.granted, len(self.data), rows, columns), self.data, self.heat.tobytes()


@dataclass(frozen=True, slots=True)
class SizedPixels:
    """The (S, S, C) uint8 pixels of an image, and the width and height of the upright image in pixels."""

    pixels: Pixels
    width: int
    height: int


def largest_reply(work: int, preprocessing: Preprocessing) -> int:
    """The most bytes that the payload of a reply to that work has."""
    pixels = SIZE.size + preprocessing.size**2 * preprocessing.channels
    return max(MAX_ERROR_BYTES, MAX_PICTURE_BYTES if work == DRAW else pixels)


def encode_error(error: ServiceError) -> bytes:
    """The payload of an ERROR."""
    return f"{error.code} {error.detail}".encode()[:MAX_ERROR_BYTES]


def parse_error(payload: bytes) -> ServiceError:
    """The error in the payload of an ERROR; Internal if a decoder sends anything else."""
    code, _, detail = payload.decode("utf-8", "replace").partition(" ")
    return ERRORS[code](detail) if code in ERRORS else Internal()
