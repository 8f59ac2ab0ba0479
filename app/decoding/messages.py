"""What the server and a decoder process send to each other over their socket.

A job is JOB and the image file's bytes. A reply is REPLY and its payload. Neither side unpickles anything: the decoder
reads untrusted bytes, and so the server does not trust what the decoder sends.
"""

import json
import struct
from dataclasses import asdict, dataclass
from typing import Any

from app.errors import ImageTooLarge, Internal, Overloaded, ServiceError, UndecodableImage, UnsupportedFormat
from models.preprocess import Preprocessing

JOB = struct.Struct("<QQ")  # bytes of the file, and bytes of memory that the decoder may take
REPLY = struct.Struct("<BIQ")  # the kind, the image library's warnings, bytes of the payload
PIXELS, ERROR, COSTLY = range(3)  # kinds; the payload of COSTLY is COST
COST = struct.Struct("<Q")  # bytes of memory that decoding is estimated to take
MAX_ERROR_BYTES = 4096
ERRORS: dict[str, type[ServiceError]] = {
    error.code: error for error in (ImageTooLarge, Overloaded, UndecodableImage, UnsupportedFormat)
}


@dataclass(frozen=True, slots=True)
class Task:
    """What a decoder does with every file: the network's preprocessing, and the limit of pixels of an image."""

    preprocessing: Preprocessing
    max_image_pixels: int

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def parse_task(data: bytes) -> Task:
    """The task in the bytes of `Task.to_json`."""
    document = json.loads(data)
    fields: dict[str, Any] = document["preprocessing"]
    preprocessing = Preprocessing(**{**fields, "mean": tuple(fields["mean"]), "std": tuple(fields["std"])})
    return Task(preprocessing, document["max_image_pixels"])


def encode_error(error: ServiceError) -> bytes:
    """The payload of an ERROR."""
    return f"{error.code} {error.detail}".encode()[:MAX_ERROR_BYTES]


def parse_error(payload: bytes) -> ServiceError:
    """The error in the payload of an ERROR; Internal if a decoder sends anything else."""
    code, _, detail = payload.decode("utf-8", "replace").partition(" ")
    return ERRORS[code](detail) if code in ERRORS else Internal()
