"""One loaded model and the steps of an image through it: decode, queue, model, probabilities.

Owns the order of these steps, and the deadline over all of them.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from app.decoding.connection import Job
from app.decoding.processes import Decoders
from app.errors import DeadlineExceeded, ServiceError
from app.in_flight import InFlight
from app.memory import Share
from app.metrics import Metrics
from app.serving.classifier import Classifier, load_classifier
from app.serving.entry import Entry, NormalisedPixels, TimedPrediction
from app.serving.queue import Queue
from app.serving.replica_set import ReplicaSet
from app.serving.service_rate import ServiceRate
from app.serving.watchdog import Watchdog, stuck_after
from app.serving.worker import Worker
from app.settings import Settings
from models.checkpoint import Checkpoint
from models.metadata import CheckpointMetadata
from models.predictions import Prediction
from models.preprocess import Pixels
from models.probabilities import Calibration, prediction_sets

GOLDEN_CHECK_SECONDS = 10.0  # after which an idle replica gets a golden check


@dataclass(frozen=True, slots=True)
class Classification:
    """One image's prediction. `prediction_set` has the labels' indices by falling probability, if it was asked for."""

    timed: TimedPrediction
    prediction_set: list[int] | None


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A checkpoint's metadata and version, and one autotuned classifier for each device.

    `largest_batch_seconds` is about what the largest batch takes on the slowest device, and not less.
    """

    metadata: CheckpointMetadata
    version: str
    classifiers: list[Classifier]
    largest_batch_seconds: float


def load_model(settings: Settings, checkpoint: Checkpoint) -> LoadedModel:
    """Makes a classifier for each device of the settings. Takes seconds.

    Raises CheckpointError, and ValueError for a device that is not there, with a message of one line.
    """
    devices = settings.devices or (settings.device,)
    classifiers = [
        load_classifier(checkpoint, device, settings.dtype, settings.max_batch, len(devices)) for device in devices
    ]
    seconds = max(_bound_batch_seconds(classifier) for classifier in classifiers)
    return LoadedModel(checkpoint.metadata, checkpoint.version, classifiers, seconds)


def _bound_batch_seconds(classifier: Classifier) -> float:
    """One image's seconds times the images of the largest batch: in a batch an image takes no longer than alone."""
    started = time.monotonic()
    classifier.run_golden_batch(1)
    return (time.monotonic() - started) * classifier.max_batch_size


class Pipeline:
    """Made on the event loop. `on_change` is called there when a replica fails or recovers.

    While a replica fails its golden check, the check is repeated after `retry_seconds`. The watchdog looks at the
    replicas every `watch_seconds`.
    """

    def __init__(
        self,
        model: LoadedModel,
        settings: Settings,
        decoders: Decoders,
        metrics: Metrics,
        on_change: Callable[[], None],
        retry_seconds: float,
        watch_seconds: float,
    ) -> None:
        self.model = model
        self.replicas = ReplicaSet(len(model.classifiers), on_change)
        self.queue = Queue(settings.queue_size, self.replicas, ServiceRate(), metrics)
        self._workers = [
            Worker(
                classifier,
                number,
                self.queue,
                self.replicas,
                golden_check_seconds=GOLDEN_CHECK_SECONDS,
                retry_seconds=retry_seconds,
            )
            for number, classifier in enumerate(model.classifiers)
        ]
        self._watchdog = Watchdog(
            self._workers, self.queue, self.replicas, stuck_after(model.largest_batch_seconds), watch_seconds
        )
        self.requests = InFlight()  # that are answered by this model
        self.decoders = decoders

    def start(self) -> None:
        """Starts the model's threads and the watchdog."""
        for worker in self._workers:
            worker.start()
        self._watchdog.start()

    def close(self) -> None:
        """Makes the model's threads end once the queue is empty."""
        self._watchdog.stop()
        self.queue.close()

    def fail_requests(self, error: ServiceError) -> None:
        """Answers every image that has no answer yet."""
        self.queue.fail_admitted(error)

    def join(self, seconds: float) -> list[str]:
        """Waits for the end of the model's threads, for at most that long. Returns the names of those that go on."""
        deadline = time.monotonic() + seconds
        return [worker.name for worker in self._workers if not worker.join(max(0.0, deadline - time.monotonic()))]

    def describe_busy(self) -> list[str]:
        """Names each replica that is busy, and for how long it has been, for a log line."""
        return self._watchdog.describe_busy()

    async def classify(
        self,
        images: Sequence[bytes | ServiceError],
        deadline: float,
        coverage: float | None,
        shares: Sequence[Share | None] = (),
    ) -> list[Classification | ServiceError]:
        """Returns each image's classification or error, in order. `images` are files' bytes, or errors to hand on.

        `deadline` is in `time.monotonic` seconds. `coverage` must be None for a model without a calibration. Each
        image's share of the bodies' memory stays reserved until no decoding thread has the image any more. Raises
        QueueFull and NotReady.
        """
        with self.queue.reserve(len(images), deadline) as entries:
            for entry, image, share in zip(entries, images, shares or (None,) * len(images), strict=True):
                if isinstance(image, ServiceError):
                    self.queue.fail(entry, image)
                else:
                    self._decode(image, entry, share)
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

    def _decode(self, data: bytes, entry: Entry, share: Share | None) -> None:
        """Queues the image's pixels once they are decoded. Forgets the image if its request ends before.

        The share is held until no decoder has the image's bytes any more.
        """

        def deliver(outcome: Pixels | ServiceError) -> None:
            if isinstance(outcome, ServiceError):
                self.queue.fail(entry, outcome)
            else:
                self.queue.submit(entry, outcome)

        if share is not None:
            share.hold()
        job = self.decoders.submit(data, deliver, share.release if share is not None else None)
        entry.future.add_done_callback(partial(self._forget, job))

    def _forget(self, job: Job, future: "asyncio.Future[TimedPrediction | ServiceError]") -> None:
        if future.cancelled():
            self.decoders.cancel(job)

    def _outcome(self, entry: Entry, coverage: float | None) -> Classification | ServiceError:
        if not entry.future.done():
            return DeadlineExceeded("The request's time was up before its image was answered.")
        outcome = entry.future.result()
        if isinstance(outcome, ServiceError):
            return outcome
        calibration = self.model.metadata.calibration
        return Classification(outcome, make_prediction_set(outcome.prediction, calibration, coverage))


def make_prediction_set(
    prediction: Prediction, calibration: Calibration | None, coverage: float | None
) -> list[int] | None:
    """Returns the indices of the labels in the prediction set, the most probable first, or None where none is made."""
    if calibration is None or coverage is None:
        return None
    return prediction_sets(torch.from_numpy(prediction.probabilities)[None], calibration, coverage)[0]
