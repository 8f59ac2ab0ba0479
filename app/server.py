"""The server process: sockets, signals, and a shutdown that loses no request."""

import asyncio
import logging
import signal
import socket
from collections.abc import Awaitable
from contextlib import suppress
from types import FrameType

import uvicorn

from app.backstop import Backstop
from app.health import Phase
from app.logs import describe_error
from app.runtime import accept_hangup, resume_garbage_collection
from app.service import Service

log = logging.getLogger("vggserve.server")

BACKSTOP_SECONDS = 5.0  # after drain_delay and shutdown_timeout, for the orderly end


class Server(uvicorn.Server):
    """Uvicorn with an orderly shutdown.

    At a signal uvicorn closes its sockets at once and then raises the signal again. Here the signal makes the service
    not ready at once. The server goes on accepting for `drain_delay`, so that load balancers can notice. Then it stops
    accepting and finishes the requests in flight for at most `shutdown_timeout`. `has_failed` says whether some of them
    got no answer. `backstop` ends the process if none of this happens.
    """

    def __init__(self, config: uvicorn.Config, service: Service, backstop: Backstop | None = None) -> None:
        super().__init__(config)
        self.service = service
        self.has_failed = False
        self._backstop = backstop
        self._skip_delay = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None
        self._reloads: set[asyncio.Task[None]] = set()  # the event loop itself keeps no task alive

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Also sets the handler of SIGHUP, which reloads the checkpoint, and logs the address of given sockets."""
        await super().startup(sockets)
        if sockets:
            self._log_started_message(sockets)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._on_hangup)
        accept_hangup()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal starts the drain. A second one ends the drain's delay."""
        if self._backstop is not None:
            settings = self.service.settings
            self._backstop.arm(settings.drain_delay + settings.shutdown_timeout + BACKSTOP_SECONDS)
        asyncio.get_running_loop().call_soon_threadsafe(self._on_signal, sig)

    def _on_signal(self, sig: int) -> None:
        if self._draining is not None:
            self._skip_delay.set()
            return
        log.info("%s: draining", signal.Signals(sig).name)
        self._draining = asyncio.create_task(self._drain())

    def _on_hangup(self) -> None:
        reload = asyncio.create_task(self._reload())
        self._reloads.add(reload)
        reload.add_done_callback(self._reloads.discard)

    async def _reload(self) -> None:
        try:
            loaded = await self.service.reload()
        except Exception as error:
            log.error("SIGHUP: %s; the model before it serves on", describe_error(error))  # noqa: TRY400
        else:
            log.info("SIGHUP: %s %s answers now", loaded.metadata.architecture.name, loaded.version)

    async def _drain(self) -> None:
        settings, health = self.service.settings, self.service.health
        health.enter(Phase.DRAINING, "the server is shutting down")
        await _wait(self._skip_delay.wait(), settings.drain_delay)
        for server in self.servers:
            server.close()
        health.enter(Phase.CLOSED, "the server no longer accepts requests")
        await _wait(self.service.requests.wait_until_zero(), settings.shutdown_timeout)
        if self.service.requests.count:
            self.has_failed = True
            unanswered = self.service.give_up_requests()
            log.error("shutdown_timeout, %g s, is over; %s", settings.shutdown_timeout, unanswered)
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Also ends the server when the model could not be loaded."""
        if self.service.loaded:
            resume_garbage_collection()
        return await super().on_tick(counter) or self.service.failure is not None


async def _wait(condition: Awaitable[object], seconds: float) -> None:
    """Returns when `condition` is met, or after `seconds`."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await condition
