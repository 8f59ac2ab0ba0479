"""The service as a whole: its settings, health and metrics, and the model that answers at the moment.

Owns start, stop and which model is current. Knows nothing of HTTP. Torch takes seconds to import and
probes must be answered meanwhile, so what needs it is imported when the loading begins.
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
from app.metrics import Metrics
from app.settings import Settings

if TYPE_CHECKING:
    from app.pipeline import LoadedModel, Pipeline

log = logging.getLogger("vggserve.service")
P = ParamSpec("P")
R = TypeVar("R")


class Service:
    """Made anywhere; started and closed on the event loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.health = Health()
        self.metrics = Metrics()
        self.failure: Exception | None = None
        self.idle = asyncio.Event()  # set while no request is being answered
        self.idle.set()
        self._requests = 0
        self._pipeline: Pipeline | None = None
        self._decoders = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="decode")

    async def start(self) -> None:
        """Loads the model and becomes ready, or keeps in `failure` why that cannot be."""
        try:
            model = await _in_thread(_load, self.settings)
        except Exception as error:
            self.failure = error
            self.health.enter(Phase.FAILED, str(error))
            log.log(logging.DEBUG if isinstance(error, ValueError) else logging.ERROR, "no model", exc_info=error)
            return
        from app.pipeline import Pipeline

        self._pipeline = pipeline = Pipeline(model, self.settings, self._decoders, self.metrics)
        self.metrics.watch_queue(lambda: pipeline.batcher.depth)
        self.health.enter(Phase.READY)

    def pipeline(self) -> "Pipeline":
        """The model that answers now. Raises NotReady."""
        if self._pipeline is None:
            raise NotReady(f"The service is not ready: {self.health.reason}.")
        return self._pipeline

    @contextmanager
    def request(self) -> Iterator[None]:
        """Counts the block as a request in flight."""
        self._requests += 1
        self.metrics.in_flight.set(self._requests)
        self.idle.clear()
        try:
            yield
        finally:
            self._requests -= 1
            self.metrics.in_flight.set(self._requests)
            if not self._requests:
                self.idle.set()

    async def close(self) -> None:
        """Ends the threads; waits for the model's if nothing is in flight, which else may never end."""
        self._decoders.shutdown(wait=False, cancel_futures=True)
        if self._pipeline is not None:
            threads = self._pipeline.batcher.close()
            if self.idle.is_set():
                for thread in threads:
                    await _in_thread(thread.join)


def _load(settings: Settings) -> "LoadedModel":
    from app.pipeline import load_model

    return load_model(settings)


async def _in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Like `asyncio.to_thread`, but on a thread that the end of the process does not wait for."""
    future: Future[R] = Future()

    def run() -> None:
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(future)
