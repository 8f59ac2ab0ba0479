"""The service as a whole: its settings, health and metrics, and the model that answers at the moment.

Owns start, reload, stop, and which model is current.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from app.errors import NotReady
from app.health import Health, Phase
from app.in_flight import InFlight
from app.memory import BodyMemory
from app.metrics import Metrics
from app.runtime import release_freed_memory
from app.settings import Settings
from models.files import read_file

if TYPE_CHECKING:
    from app.serving.pipeline import LoadedModel, Pipeline

log = logging.getLogger("vggserve.service")
RETRY_SECONDS = 1.0  # between golden checks while they fail
P = ParamSpec("P")
R = TypeVar("R")


class Service:
    """Started and closed on the event loop. Raises ValueError for API keys that cannot be read.

    While a replica of the model fails its golden check, the check is repeated after `retry_seconds`.
    """

    def __init__(self, settings: Settings, retry_seconds: float = RETRY_SECONDS) -> None:
        self.settings = settings
        self.health = Health()
        self.metrics = Metrics()
        self.keys = settings.keys()
        self.body_memory = BodyMemory(settings.max_body_memory, settings.client_body_memory())
        self.failure: Exception | None = None
        self.requests = requests = InFlight()
        self.metrics.watch_requests(lambda: requests.count)
        self._retry_seconds = retry_seconds
        self._reloading = asyncio.Lock()
        self._pipeline: Pipeline | None = None
        self._decoders = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="decode")

    @property
    def loaded(self) -> bool:
        """Whether a model was loaded. Stays true while draining."""
        return self._pipeline is not None

    async def start(self) -> None:
        """Loads the model and makes the service ready, or sets `failure`."""
        try:
            self._swap(await _in_thread(_load, self.settings))
        except Exception as error:
            self.failure = error
            self.health.enter(Phase.FAILED, str(error))
            log.log(logging.DEBUG if isinstance(error, ValueError) else logging.ERROR, "no model", exc_info=error)

    async def reload(self) -> "LoadedModel":
        """Loads the checkpoint again while the current model answers, then makes the new model the current one.

        Requests that have begun are answered by the model that they began with. Raises ValueError for a checkpoint
        that cannot be served, and what torch raises, such as OutOfMemoryError where the device cannot hold two models.
        After an error the current model stays.
        """
        async with self._reloading:
            try:
                keys, model = self.settings.keys(), await _in_thread(_load, self.settings)
            except Exception:
                self.metrics.reloads.labels("refused").inc()
                raise
            self.keys, old = keys, self._swap(model)
            self.metrics.reloads.labels("swapped").inc()
            if old is not None:
                await old.requests.wait_until_zero()
                old.close()
            return model

    @contextmanager
    def pipeline(self) -> Iterator["Pipeline"]:
        """The pipeline of the current model, which stays open until the end of the block. Raises NotReady."""
        pipeline = self._pipeline
        if pipeline is None:
            raise NotReady(f"The service is not ready: {self.health.reason}.")
        with pipeline.requests:
            yield pipeline

    def _swap(self, model: "LoadedModel") -> "Pipeline | None":
        """Makes `model` the current one. Returns the pipeline of the model before it."""
        # Deferred: it imports torch, which takes seconds. `_load` has imported it by now.
        from app.serving.pipeline import Pipeline

        old = self._pipeline
        self._pipeline = new = Pipeline(
            model, self.settings, self._decoders, self.metrics, self._update_health, self._retry_seconds
        )
        new.start()
        self.metrics.watch_queue(lambda: new.queue.depth)
        self.metrics.model.clear()
        self.metrics.model.labels(model.metadata.architecture.name, model.version).set(1)
        self._update_health()
        return old

    def _update_health(self) -> None:
        """Derives the health from the replicas of the current model, also where those of an older one have changed."""
        assert self._pipeline is not None
        replicas = self._pipeline.replicas
        self.metrics.replicas.set(replicas.healthy)
        if replicas.healthy:
            self.health.enter(Phase.READY)
        elif replicas.alive:
            self.health.enter(Phase.UNWELL, "every replica of the model fails its golden check")
        else:
            self.health.enter(Phase.LOST, "every replica of the model is lost for good")

    async def close(self) -> None:
        """Ends the threads. Waits for the model's only if no request is in flight: a stuck one would keep them."""
        self._decoders.shutdown(wait=False, cancel_futures=True)
        if self._pipeline is not None:
            self._pipeline.close()
            if not self.requests.count:
                await _in_thread(self._pipeline.join)


def _load(settings: Settings) -> "LoadedModel":
    """Loads the model, which takes seconds. Raises ValueError for a bad checkpoint or device, and what torch raises."""
    try:
        with ThreadPoolExecutor(1) as reader:
            reading = reader.submit(read_file, settings.checkpoint)
            # Deferred: importing torch takes seconds. The file is read meanwhile, and probes are answered.
            from app.serving.pipeline import load_model
            from models.checkpoint import parse_checkpoint
        try:
            checkpoint = parse_checkpoint(settings.checkpoint, reading.result())
        except OSError as error:
            raise ValueError(f"{settings.checkpoint}: {(error.strerror or str(error)).lower()}") from error
        del reading  # frees the file's bytes, of which the checkpoint has copies
        return load_model(settings, checkpoint)
    finally:
        release_freed_memory()


async def _in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Like `asyncio.to_thread`, but on a daemon thread, for which the end of the process does not wait."""
    future: Future[R] = Future()

    def run() -> None:
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(future)
