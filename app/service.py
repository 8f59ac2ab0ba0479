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

from app.decoding.messages import Task
from app.decoding.processes import Decoders
from app.decoding.zygote import Zygote
from app.errors import Draining, NotReady
from app.health import Health, Phase
from app.in_flight import InFlight
from app.keys import hash_key
from app.logs import describe_error
from app.memory import BodyMemory
from app.metrics import Metrics
from app.runtime import release_freed_memory
from app.settings import Settings
from models.files import read_file

if TYPE_CHECKING:
    from app.serving.pipeline import LoadedModel, Pipeline

log = logging.getLogger("vggserve.service")
RETRY_SECONDS = 1.0  # between golden checks while they fail
WATCH_SECONDS = 1.0  # between two looks at the model's threads
JOIN_SECONDS = 1.0  # for the model's threads at the end of the process; without work they end at once
P = ParamSpec("P")
R = TypeVar("R")


class Service:
    """Started and closed on the event loop. Raises ValueError for API keys that cannot be read.

    `zygote` starts the decoder processes; it is not closed with the service. `check_answers` gets a model that is
    loaded before it answers. It raises ValueError where an answer of it cannot be built. While a replica of the model
    fails its golden check, the check is repeated after `retry_seconds`. The watchdog looks at the replicas every
    `watch_seconds`. `close` waits for their threads for at most `join_seconds`.
    """

    def __init__(
        self,
        settings: Settings,
        zygote: Zygote,
        check_answers: "Callable[[LoadedModel, Settings], None]",
        retry_seconds: float = RETRY_SECONDS,
        watch_seconds: float = WATCH_SECONDS,
        join_seconds: float = JOIN_SECONDS,
    ) -> None:
        self.settings = settings
        self.health = Health()
        self.metrics = Metrics()
        self.keys = tuple(map(hash_key, settings.keys()))
        self.body_memory = BodyMemory(settings.max_body_memory, settings.client_body_memory())
        self.failure: Exception | None = None
        self.requests = requests = InFlight()
        self.metrics.watch_requests(lambda: requests.count)
        self._check_answers = check_answers
        self._retry_seconds = retry_seconds
        self._watch_seconds = watch_seconds
        self._join_seconds = join_seconds
        self._loading = asyncio.Lock()
        self._has_given_up = False
        self._pipeline: Pipeline | None = None
        self._zygote = zygote

    @property
    def loaded(self) -> bool:
        """Whether a model was loaded. Stays true while draining."""
        return self._pipeline is not None

    async def start(self) -> None:
        """Loads the model and makes the service ready, or sets `failure`."""
        async with self._loading:
            try:
                self._swap(*await self._load())
            except Exception as error:
                self.failure = error
                self.health.enter(Phase.FAILED, describe_error(error))
                log.log(logging.DEBUG if isinstance(error, ValueError) else logging.ERROR, "no model", exc_info=error)

    async def reload_keys(self) -> None:
        """Reads the API keys again. Raises ValueError where they cannot be read; then the keys before them stay."""
        self.keys = tuple(map(hash_key, await _in_thread(self.settings.keys)))

    async def reload(self) -> "LoadedModel":
        """Reads the API keys and loads the checkpoint again, then makes the new model the current one.

        The new keys count at once, also where the checkpoint is refused. The current model answers meanwhile, and
        requests that have begun are answered by the model that they began with. Raises ValueError for keys that cannot
        be read and for a checkpoint that cannot be served, and what torch raises, such as OutOfMemoryError where the
        device cannot hold two models. After an error the current model stays.
        """
        try:
            await self.reload_keys()
            async with self._loading:
                model, decoders = await self._load()
                old = self._swap(model, decoders)
                self.metrics.reloads.labels("swapped").inc()
                if old is not None:
                    await old.requests.wait_until_zero()
                    old.close()
                    await old.decoders.close()
        except Exception:
            self.metrics.reloads.labels("refused").inc()
            raise
        return model

    @contextmanager
    def pipeline(self) -> Iterator["Pipeline"]:
        """The pipeline of the current model, which stays open until the end of the block. Raises NotReady."""
        pipeline = self._pipeline
        if pipeline is None:
            raise NotReady(f"The service is not ready: {self.health.reason}.")
        with pipeline.requests:
            yield pipeline

    async def _load(self) -> "tuple[LoadedModel, Decoders]":
        """Loads the model, and starts the decoder processes for its preprocessing."""
        await _in_thread(self._zygote.start)
        model = await _in_thread(_load, self.settings, self._check_answers)
        task = Task(model.metadata.preprocessing, self.settings.max_image_pixels)
        decoders = Decoders(self._zygote, task, self.settings.decode_threads, self.metrics)
        await decoders.start()
        return model, decoders

    def _swap(self, model: "LoadedModel", decoders: Decoders) -> "Pipeline | None":
        """Makes `model` the current one. Returns the pipeline of the model before it."""
        # Deferred: it imports torch, which takes seconds. `_load` has imported it by now.
        from app.serving.pipeline import Pipeline

        old = self._pipeline
        self._pipeline = new = Pipeline(
            model,
            self.settings,
            decoders,
            self.metrics,
            self._update_health,
            self._retry_seconds,
            self._watch_seconds,
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
        elif not replicas.alive:
            self.health.enter(Phase.LOST, "every replica of the model is lost for good")
        elif not replicas.responsive:
            self.health.enter(Phase.HUNG, "no replica of the model comes to the end of its batch; restart the server")
        elif replicas.stuck == replicas.alive:
            self.health.enter(Phase.STUCK, "every replica of the model is busy with one batch for too long")
        else:
            self.health.enter(Phase.UNWELL, "every replica of the model fails its golden check")

    def give_up_requests(self) -> str:
        """Answers every image of the current model with Draining. Returns what was unanswered, for a log line."""
        requests = f"requests without an answer: {self.requests.count}"
        if self._pipeline is None:
            return requests
        busy = self._pipeline.describe_busy()
        self._has_given_up = True
        self._pipeline.fail_requests(Draining())
        return "; ".join([requests, *busy])

    async def close(self) -> None:
        """Ends the threads and processes. A model's thread that hangs is waited for for a bounded time."""
        if self._pipeline is not None:
            self._pipeline.close()
            await self._pipeline.decoders.close()
            if not self._has_given_up:
                for name in await _in_thread(self._pipeline.join, self._join_seconds):
                    log.warning("the thread of replica %s does not end", name)


def _load(settings: Settings, check_answers: "Callable[[LoadedModel, Settings], None]") -> "LoadedModel":
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
        model = load_model(settings, checkpoint)
        check_answers(model, settings)
        return model
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
