"""The process: sockets, signals and the order of its end.

Owns draining. Knows nothing of routes or models.
"""

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Awaitable
from contextlib import suppress
from types import FrameType

import uvicorn

from app.health import Phase
from app.logs import one_line
from app.service import Service

log = logging.getLogger("vggserve.server")


class Server(uvicorn.Server):
    """Uvicorn with another end.

    Uvicorn closes its sockets at the signal and then dies of it. Here the signal makes the service not
    ready at once; it goes on accepting for `drain_delay`, so that whoever balances the load can notice;
    then it stops accepting, finishes what is in flight for at most `shutdown_timeout`, and ends with 0.
    """

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service
        self._hurry = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None
        self._reloading: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Also lets SIGHUP reload the checkpoint."""
        await super().startup(sockets)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._on_hangup)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the drain; a second one cuts its delay short."""
        asyncio.get_running_loop().call_soon_threadsafe(self._on_signal, sig)

    def _on_signal(self, sig: int) -> None:
        if self._draining is not None:
            self._hurry.set()
            return
        log.info("%s: draining", signal.Signals(sig).name)
        self._draining = asyncio.create_task(self._drain())

    def _on_hangup(self) -> None:
        self._reloading = asyncio.create_task(self._reload())

    async def _reload(self) -> None:
        try:
            loaded = await self.service.reload()
        except Exception as error:
            log.error("SIGHUP: %s; the model before it serves on", one_line(error))  # noqa: TRY400
        else:
            log.info("SIGHUP: %s %s answers now", loaded.description.architecture.name, loaded.version)

    async def _drain(self) -> None:
        settings, health = self.service.settings, self.service.health
        health.enter(Phase.DRAINING, "the server is shutting down")
        await _wait(self._hurry.wait(), settings.drain_delay)
        for server in self.servers:
            server.close()
        health.enter(Phase.CLOSED, "the server no longer accepts requests")
        await _wait(self.service.requests.wait_until_zero(), settings.shutdown_timeout)
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Also ends when the model could not be loaded."""
        if self.service.loaded and not gc.isenabled():
            gc.freeze()  # what is loaded stays: looking through all of it stops every thread meanwhile
            gc.enable()
        return await super().on_tick(counter) or self.service.failure is not None


async def _wait(condition: Awaitable[object], seconds: float) -> None:
    """Returns when `condition` is met, or after `seconds`."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await condition
