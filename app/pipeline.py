"""One loaded model and the way of an image through it: decode, queue, model, probabilities.

Owns the order of these steps, the deadline over all of them, and what a loaded model is. Knows nothing
of HTTP.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from app.batcher import Answer, Batcher, Places
from app.classifier import Classifier, load
from app.errors import DeadlineExceeded, ServiceError
from app.images import decode
from app.metrics import Metrics
from app.settings import Settings
from app.uploads import Upload
from app.worker import Worker
from models.checkpoint import Description, read
from models.preprocess import Pixels
from models.probabilities import prediction_sets, softmax, typicality


@dataclass(frozen=True, slots=True)
class Classified:
    """One image's (K,) probabilities, what the calibration says of them, and where the time went.

    `typicality` is None without a calibration, `prediction_set` where no coverage was asked for; it holds
    the labels' indices by falling probability.
    """

    probabilities: NDArray[np.float32]
    typicality: float | None
    prediction_set: list[int] | None
    decode_seconds: float
    queue_seconds: float
    model_seconds: float


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A checkpoint's description and version with one warmed-up classifier a device."""

    description: Description
    version: str
    classifiers: list[Classifier]


def load_model(settings: Settings) -> LoadedModel:
    """Everything between the file and a warmed-up model; takes seconds, so it belongs in a thread.

    Raises CheckpointError and ValueError with one line each.
    """
    checkpoint = read(settings.checkpoint)
    devices = settings.devices or (settings.device,)
    classifiers = [load(checkpoint, device, settings.dtype, settings.max_batch, len(devices)) for device in devices]
    return LoadedModel(checkpoint.description, checkpoint.version, classifiers)


class Pipeline:
    """Made on the event loop. `on_change` is called there when a replica fails or recovers."""

    def __init__(
        self,
        model: LoadedModel,
        settings: Settings,
        decoders: Executor,
        metrics: Metrics,
        on_change: Callable[["Pipeline"], None],
    ) -> None:
        self.model = model
        self.batcher = Batcher(len(model.classifiers), settings.queue_size, metrics, lambda: on_change(self))
        self._workers = [Worker(classifier, self.batcher) for classifier in model.classifiers]
        self._users = 0
        self._unused = asyncio.Event()
        self._max_image_pixels = settings.max_image_pixels
        self._decoders = decoders
        self._metrics = metrics

    @contextmanager
    def in_use(self) -> Iterator[Self]:
        """Counts the block as a user, for whom the model is kept."""
        self._users += 1
        self._unused.clear()
        try:
            yield self
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def unused(self) -> None:
        """Returns when nobody uses the model, which must have been replaced before."""
        if self._users:
            await self._unused.wait()

    def close(self) -> None:
        """Lets the model's threads end once the queue is empty."""
        self.batcher.close()

    def join(self) -> None:
        """Waits for these threads."""
        for worker in self._workers:
            worker.join()

    async def classify(
        self, uploads: Sequence[Upload], deadline: float, coverage: float | None
    ) -> list[Classified | ServiceError]:
        """Each image's outcome, in order. `deadline` is in `time.monotonic` seconds. Raises QueueFull.

        A `coverage` may only be asked of a model with a calibration.
        """
        with self.batcher.reserve(len(uploads)) as places:
            return await asyncio.gather(*(self._classify(upload, places, deadline, coverage) for upload in uploads))

    async def _classify(
        self, upload: Upload, places: Places, deadline: float, coverage: float | None
    ) -> Classified | ServiceError:
        started = time.monotonic()
        try:
            async with asyncio.timeout(deadline - started):
                pixels = await self._decode(upload, places)
                decoded = time.monotonic()
                answer = await places.submit(pixels, deadline)
        except TimeoutError:
            return DeadlineExceeded("The request's time was up before its image was answered.")
        except ServiceError as error:
            return error
        return classified(answer, self.model.description, coverage, decoded - started)

    async def _decode(self, upload: Upload, places: Places) -> Pixels:
        try:
            if isinstance(upload.data, ServiceError):
                raise upload.data
            return await asyncio.get_running_loop().run_in_executor(self._decoders, self._decode_bytes, upload.data)
        except BaseException:
            places.give_back()
            raise

    def _decode_bytes(self, data: bytes) -> Pixels:
        with self._metrics.decode_seconds.time():
            return decode(data, self.model.description.preprocessing, self._max_image_pixels)


def classified(answer: Answer, description: Description, coverage: float | None, decode_seconds: float) -> Classified:
    """What the logits say. On the event loop: for 1,000 classes 8 µs, 17 with typicality, 44 with a set too."""
    logits, calibration = torch.from_numpy(answer.logits)[None], description.calibration  # (1, K)
    probabilities = softmax(logits, description.temperature)
    sets = prediction_sets(probabilities, calibration, coverage) if calibration and coverage else None
    return Classified(
        probabilities[0].numpy(),
        typicality(logits, calibration)[0] if calibration else None,
        sets[0] if sets else None,
        decode_seconds,
        answer.queue_seconds,
        answer.model_seconds,
    )
