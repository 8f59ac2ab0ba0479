"""What passes through the queue: one image from its admission to its answer, and batches of images."""

import asyncio
import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from app.errors import ServiceError
from models.predictions import Prediction
from models.preprocess import Pixels

NormalisedPixels = NDArray[np.float32]  # (…, C, S, S), as `models.preprocess.normalise` makes them
NetworkInput = Pixels | NormalisedPixels  # of one image: (S, S, C) uint8 or (C, S, S) float32


@dataclass(frozen=True, slots=True)
class TimedPrediction:
    """The model's prediction for one image, and how many seconds each step took.

    `decode_seconds` counts from the image's admission until its pixels were queued, and so includes the wait for a
    decoding thread. `model_seconds` is the time of the whole batch, which had `batch_size` images.
    """

    prediction: Prediction
    decode_seconds: float
    queue_seconds: float
    model_seconds: float
    batch_size: int


@dataclass(slots=True, eq=False)
class Entry:
    """One image from its admission to its answer. Times are in `time.monotonic` seconds.

    `future` gets a prediction or an error. It is cancelled when the request no longer waits for the image.
    `reserved` says whether the entry counts towards the capacity of the queue. `failures` counts the replicas that took
    the image and did not answer it.
    """

    deadline: float
    future: "asyncio.Future[TimedPrediction | ServiceError]"
    admitted_at: float = field(default_factory=time.monotonic)
    queued_at: float = 0.0
    pixels: NetworkInput | None = None
    reserved: bool = True
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Images for a replica to answer, at least one."""

    entries: list[Entry]


@dataclass(frozen=True, slots=True)
class Idle:
    """No image came for as long as the replica was ready to wait."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The queue is closed and empty."""
