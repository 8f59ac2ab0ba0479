"""A server on a loopback port, in a thread of the test's own process."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from app.main import create_app
from app.settings import Settings
from tests.fakes.service import ZYGOTE


class _ThreadServer(uvicorn.Server):
    """Tells when its model answers."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        await self.config.app.state.starting  # type: ignore[union-attr]
        self.ready.set()


@contextmanager
def listening(checkpoint: Path, **settings: object) -> Iterator[str]:
    """The URL of a server that has loaded its model."""
    app = create_app(Settings.model_validate({"checkpoint": checkpoint, "dtype": "float32", **settings}), ZYGOTE)
    server = _ThreadServer(uvicorn.Config(app, port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    server.ready.wait()
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()
