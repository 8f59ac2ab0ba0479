"""Shutdown and reload, with real sockets and signals, in the test's own process."""

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI

from app.__main__ import main
from app.backstop import Backstop
from app.listening import open_listeners
from app.main import create_app
from app.server import Server
from app.service import Service
from app.settings import Settings
from tests.fakes.checkpoints import write_small_checkpoint
from tests.fakes.gates import Gate
from tests.fakes.images import encoded, random_image
from tests.fakes.service import ZYGOTE, client_of

pytestmark = pytest.mark.anyio
IMAGE = encoded(random_image())


class Connection:
    """One HTTP/1.1 connection, driven by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def begin(self) -> None:
        """Sends a request's head and returns once the server has asked for the body."""
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(IMAGE)}\r\nExpect: 100-continue\r\n\r\n"
        self._writer.write(head.encode())
        assert await self._reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"

    async def finish(self) -> tuple[int, str]:
        """Sends the body and returns the answer's status and head."""
        self._writer.write(IMAGE)
        return await self._answer()

    async def get(self, path: str) -> tuple[int, str]:
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return await self._answer()

    async def _answer(self) -> tuple[int, str]:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].split("\r\n")[0])
        await self._reader.readexactly(length)
        return int(head.split()[1]), head

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


class WatchedServer(Server):
    """A server with an event for listening, whose test connections are closed with it."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config, service)
        self.listening = asyncio.Event()
        self.hung_up = asyncio.Event()
        self.clients = AsyncExitStack()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.port = self.servers[0].sockets[0].getsockname()[1]
        self.listening.set()

    async def connect(self) -> Connection:
        client = Connection(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.push_async_callback(client.close)
        return client

    async def reloaded(self) -> None:
        """Returns when the reload that a signal has asked for is over."""
        await self.hung_up.wait()
        self.hung_up.clear()
        assert self._reloads
        await asyncio.gather(*self._reloads)

    def _on_hangup(self) -> None:
        super()._on_hangup()
        self.hung_up.set()

    async def refuses(self) -> None:
        """Returns when connections are no longer accepted."""
        with suppress(ConnectionError):
            while True:
                await (await self.connect()).close()


@asynccontextmanager
async def running(checkpoint: Path, **settings: object) -> AsyncIterator[tuple[WatchedServer, "asyncio.Task[None]"]]:
    """A server with a loaded model, and the task that ends with it."""
    app = create_app(Settings.model_validate({"checkpoint": checkpoint, "dtype": "float32", **settings}), ZYGOTE)
    config = uvicorn.Config(app, port=0, log_config=None, access_log=False, timeout_graceful_shutdown=1)
    server = WatchedServer(config, app.state.service)
    serving = asyncio.create_task(server.serve(open_listeners("127.0.0.1", 0)))
    await server.listening.wait()
    await app.state.starting
    try:
        async with server.clients:
            yield server, serving
    finally:
        server.should_exit = True
        await serving


async def test_what_is_loaded_is_left_out_of_garbage_collection(checkpoint: Path) -> None:
    """Once the model is loaded, collections are on again and exclude the objects that exist by then."""
    async with running(checkpoint) as (server, _):
        gc.disable()
        try:
            loading = create_app(Settings.model_validate({"checkpoint": checkpoint}), ZYGOTE)
            assert await Server(uvicorn.Config(loading), loading.state.service).on_tick(1) is False
            assert not gc.isenabled()
            assert await server.on_tick(1) is False
            assert gc.isenabled()
            assert gc.get_freeze_count() > 0
        finally:
            gc.unfreeze()
            gc.enable()


async def test_what_is_in_flight_at_sigterm_is_answered(checkpoint: Path) -> None:
    """Fifty requests whose bodies arrive only after the server has stopped accepting are all answered."""
    async with running(checkpoint, drain_delay=0) as (server, serving):
        clients = [await server.connect() for _ in range(50)]
        await asyncio.gather(*(client.begin() for client in clients))
        signal.raise_signal(signal.SIGTERM)
        await server.refuses()
        answers = await asyncio.gather(*(client.finish() for client in clients))
        await serving
    assert [status for status, _ in answers] == [200] * 50


async def test_while_draining_the_server_is_not_ready_and_still_answers(checkpoint: Path) -> None:
    """During drain_delay readiness is false at once, liveness stays, and requests are served as usual."""
    async with running(checkpoint, drain_delay=3600) as (server, serving):
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0)
        client = await server.connect()
        assert (await client.get("/health/ready"))[0] == 503
        assert (await client.get("/health/live"))[0] == 200
        assert (await client.get("/health/startup"))[0] == 200
        await client.begin()
        assert (await client.finish())[0] == 200
        signal.raise_signal(signal.SIGTERM)  # a second one cuts the delay short
        await serving


async def test_a_kept_alive_connection_is_closed_after_draining(checkpoint: Path) -> None:
    """Once the server has stopped accepting, a request on an old connection gets 503 and Connection: close."""
    async with running(checkpoint, drain_delay=0) as (server, serving):
        idle, busy = await server.connect(), await server.connect()
        await idle.get("/health/live")
        await busy.begin()
        signal.raise_signal(signal.SIGTERM)
        await server.refuses()
        status, head = await idle.get("/model")
        assert status == 503
        assert "connection: close" in head
        assert "retry-after: 1" in head
        assert (await busy.finish())[0] == 200
        await serving


async def test_hangup_reloads_the_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """SIGHUP lets a new checkpoint take over; a bad one is refused in the log and the old one serves on."""
    caplog.set_level(logging.INFO)
    path = tmp_path / "model.safetensors"
    write_small_checkpoint(path)
    async with running(path, drain_delay=0) as (server, _):
        version = write_small_checkpoint(path, seed=1)
        signal.raise_signal(signal.SIGHUP)
        await server.reloaded()
        client = await server.connect()
        assert f"x-model-version: {version}" in (await client.get("/model"))[1]
        path.write_bytes(b"hello")
        signal.raise_signal(signal.SIGHUP)
        await server.reloaded()
        assert "the model before it serves on" in caplog.text
        assert f"x-model-version: {version}" in (await client.get("/model"))[1]


async def test_shutdown_is_bounded(checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A request that never ends does not hold the server beyond shutdown_timeout, and counts as a failure."""
    async with running(checkpoint, drain_delay=0, shutdown_timeout=0.05) as (server, serving):
        client = await server.connect()
        await client.begin()
        signal.raise_signal(signal.SIGTERM)
        await serving
        assert server.has_failed
    assert "shutdown_timeout, 0.05 s, is over; requests without an answer: 1" in caplog.text


async def test_what_a_hung_model_holds_is_answered_at_the_end(
    checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After shutdown_timeout its request gets 503, the log names the replica, and the server ends as failed."""
    async with running(checkpoint, drain_delay=0, shutdown_timeout=0.05) as (server, serving):
        client = await server.connect()
        app = server.config.app
        assert isinstance(app, FastAPI)
        with Gate(client_of(app)) as gate:
            await client.begin()
            answer = asyncio.ensure_future(client.finish())
            await gate.entered()
            signal.raise_signal(signal.SIGTERM)
            assert (await answer)[0] == 503
            await serving
        assert server.has_failed
    assert "requests without an answer: 1; replica cpu has been busy with one batch" in caplog.text


async def test_a_clean_end_is_no_failure(checkpoint: Path) -> None:
    """With nothing in flight the server ends as intended."""
    async with running(checkpoint, drain_delay=0) as (server, serving):
        signal.raise_signal(signal.SIGTERM)
        await serving
        assert not server.has_failed


async def test_the_first_signal_arms_the_backstop(checkpoint: Path) -> None:
    """It gets the time of an orderly shutdown and some seconds more, also where the event loop no longer turns."""
    armed: list[float] = []

    class RecordingBackstop(Backstop):
        def arm(self, seconds: float) -> None:
            armed.append(seconds)
            super().arm(seconds)

    app = create_app(
        Settings.model_validate({"checkpoint": checkpoint, "drain_delay": 7, "shutdown_timeout": 20}), ZYGOTE
    )
    backstop = RecordingBackstop(lambda: None)
    server = Server(uvicorn.Config(app), app.state.service, backstop)
    server.handle_exit(signal.SIGTERM, None)
    backstop.disarm()
    assert armed == [32.0]


def test_a_port_in_use_is_one_line(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The main port and that of the metrics are named, and the status is 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["--checkpoint", str(checkpoint), "--port", port]) == 1
        assert main(["--checkpoint", str(checkpoint), "--port", "0", "--metrics-port", port]) == 1
    first, second = capsys.readouterr().err.splitlines()
    fault = "which cannot be listened on: address already in use"
    assert first == f"error: host is 127.0.0.1 and port is {port}, {fault}"
    assert second == f"error: host is 127.0.0.1 and metrics_port is {port}, {fault}"


def test_keys_on_the_command_line_are_warned_of(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other users can see them. The line does not repeat them."""
    monkeypatch.setattr(Server, "run", lambda self, sockets: None)
    assert main(["--checkpoint", str(checkpoint), "--port", "0", "--api-keys", "hunter2"]) == 0
    [line] = capsys.readouterr().err.splitlines()
    assert "WARNING --api-keys shows the keys" in line
    assert "hunter2" not in line


def test_requests_without_an_answer_show_in_the_status(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The orchestrator sees that the shutdown was not clean."""
    monkeypatch.setattr(Server, "run", lambda self, sockets: setattr(self, "has_failed", True))
    assert main(["--checkpoint", str(checkpoint), "--port", "0"]) == 1


def test_a_missing_checkpoint_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a checkpoint the process ends with status 1 and a line that names the file and the fault."""
    path = tmp_path / "none.safetensors"
    assert main(["--checkpoint", str(path), "--port", "0"]) == 1
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert line == f"error: {path}: no such file or directory"


def test_a_bad_setting_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A setting out of range ends the process with status 2 and a line that names it."""
    assert main(["--port", "99999"]) == 2
    assert capsys.readouterr().err.startswith("error: port is '99999'")


def test_idle_connections_are_left_to_the_client_to_close(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server keeps them for longer than balancers do, of which the longest waits for 600 seconds."""
    kept: list[int] = []
    monkeypatch.setattr(Server, "run", lambda self, sockets: kept.append(self.config.timeout_keep_alive))
    assert main(["--checkpoint", str(checkpoint), "--port", "0"]) == 0
    assert kept[0] > 600
