"""One loaded model and the steps of an image through it: decode, queue, model, probabilities.

Owns the order of these steps, and the deadline over all of them.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import torch

from app.decoding.images import decode
from app.errors import DeadlineExceeded, Internal, ServiceError
from app.in_flight import InFlight
from app.metrics import Metrics
from app.serving.classifier import Classifier, load_classifier
from app.serving.entry import Entry, NormalisedPixels, TimedPrediction
from app.serving.queue import Queue
from app.serving.replica_set import ReplicaSet
from app.serving.service_rate import ServiceRate
from app.serving.worker import Worker
from app.settings import Settings
from models.checkpoint import Checkpoint, CheckpointMetadata
from models.predictions import Prediction
from models.probabilities import prediction_sets

log = logging.getLogger("vggserve.pipeline")

GOLDEN_CHECK_SECONDS = 10.0  # after which an idle replica gets a golden check


@dataclass(frozen=True, slots=True)
class Classification:
    """One image's prediction. `prediction_set` has the labels' indices by falling probability, if it was asked for."""

    timed: TimedPrediction
    prediction_set: list[int] | None


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A checkpoint's metadata and version, and one autotuned classifier for each device."""

    metadata: CheckpointMetadata
    version: str
    classifiers: list[Classifier]


def load_model(settings: Settings, checkpoint: Checkpoint) -> LoadedModel:
    """Makes a classifier for each device of the settings. Takes seconds.

    Raises CheckpointError, and ValueError for a device that is not there, with a message of one line.
    """
    devices = settings.devices or (settings.device,)
    classifiers = [
        load_classifier(checkpoint, device, settings.dtype, settings.max_batch, len(devices)) for device in devices
    ]
    return LoadedModel(checkpoint.metadata, checkpoint.version, classifiers)


class Pipeline:
    """Made on the event loop. `on_change` is called there when a replica fails or recovers.

    While a replica fails its golden check, the check is repeated after `retry_seconds`.
    """

    def __init__(
        self,
        model: LoadedModel,
        settings: Settings,
        decoders: Executor,
        metrics: Metrics,
        on_change: Callable[[], None],
        retry_seconds: float,
    ) -> None:
        self.model = model
        self.replicas = ReplicaSet(len(model.classifiers), on_change)
        self.queue = Queue(settings.queue_size, self.replicas, ServiceRate(), metrics)
        self._workers = [
            Worker(
                classifier,
                self.queue,
                self.replicas,
                golden_check_seconds=GOLDEN_CHECK_SECONDS,
                retry_seconds=retry_seconds,
            )
            for classifier in model.classifiers
        ]
        self.requests = InFlight()  # that are answered by this model
        self._max_image_pixels = settings.max_image_pixels
        self._decoders = decoders
        self._metrics = metrics

    def start(self) -> None:
        """Starts the model's threads."""
        for worker in self._workers:
            worker.start()

    def close(self) -> None:
        """Makes the model's threads end once the queue is empty."""
        self.queue.close()

    def join(self) -> None:
        """Waits until the model's threads have ended."""
        for worker in self._workers:
            worker.join()

    async def classify(
        self, images: Sequence[bytes | ServiceError], deadline: float, coverage: float | None
    ) -> list[Classification | ServiceError]:
        """Returns each image's classification or error, in order. `images` are files' bytes, or errors to hand on.

        `deadline` is in `time.monotonic` seconds. `coverage` must be None for a model without a calibration. Raises
        QueueFull and NotReady.
        """
        with self.queue.reserve(len(images), deadline) as entries:
            for entry, image in zip(entries, images, strict=True):
                if isinstance(image, ServiceError):
                    self.queue.fail(entry, image)
                else:
                    self._decoders.submit(self._decode, image, entry)
            return await self._wait(entries, deadline, coverage)

    async def classify_tensors(self, tensors: NormalisedPixels, deadline: float) -> list[Classification | ServiceError]:
        """Returns the classification or error of each of (N, C, S, S) normalised images, in order.

        They wait in the same queue as decoded images and share their batches. `deadline` is in `time.monotonic`
        seconds. Raises QueueFull and NotReady.
        """
        with self.queue.reserve(len(tensors), deadline) as entries:
            for entry, tensor in zip(entries, tensors, strict=True):
                self.queue.submit(entry, tensor)
            return await self._wait(entries, deadline, None)

    async def _wait(
        self, entries: Sequence[Entry], deadline: float, coverage: float | None
    ) -> list[Classification | ServiceError]:
        await asyncio.wait([entry.future for entry in entries], timeout=max(0.0, deadline - time.monotonic()))
        return [self._outcome(entry, coverage) for entry in entries]

    def _decode(self, data: bytes, entry: Entry) -> None:
        """Runs on a thread of the pool, and queues the pixels from there."""
        if entry.future.done():  # its client has gone
            return
        try:
            with self._metrics.decode_seconds.time():
                pixels = decode(data, self.model.metadata.preprocessing, self._max_image_pixels)
        except ServiceError as error:
            self.queue.fail(entry, error.without_traceback())
        except Exception:
            log.exception("an image could not be decoded for an unforeseen reason")
            self.queue.fail(entry, Internal())
        else:
            self.queue.submit(entry, pixels)

    def _outcome(self, entry: Entry, coverage: float | None) -> Classification | ServiceError:
        if not entry.future.done():
            return DeadlineExceeded("The request's time was up before its image was answered.")
        outcome = entry.future.result()
        if isinstance(outcome, ServiceError):
            return outcome
        return Classification(outcome, self._prediction_set(outcome.prediction, coverage))

    def _prediction_set(self, prediction: Prediction, coverage: float | None) -> list[int] | None:
        calibration = self.model.metadata.calibration
        if calibration is None or coverage is None:
            return None
        return prediction_sets(torch.from_numpy(prediction.probabilities)[None], calibration, coverage)[0]
