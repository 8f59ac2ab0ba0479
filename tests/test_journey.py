"""The main job, as its user does it: train, serve in a process of its own, ask over HTTP, stop."""

import http.client
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from training.__main__ import main as train

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint of a short training on the digits, and the folder of its held-out images."""
    folder = tmp_path_factory.mktemp("journey")
    checkpoint, held_out = folder / "digits.safetensors", folder / "held-out"
    options = ["--epochs", "3", "--width", "0.125"]
    assert train(["--data", "digits", "--out", str(checkpoint), "--save-held-out", str(held_out), *options]) == 0
    return checkpoint, held_out


@pytest.fixture(scope="module")
def server(trained: tuple[Path, Path]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The server's process and its port, once it listens."""
    command = [sys.executable, "-m", "app", "--port", "0", "--drain-delay", "0", "--dtype", "float32"]
    with subprocess.Popen(  # noqa: S603
        [*command, "--checkpoint", trained[0]], stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stderr is not None
        found = None
        while found is None:
            line = process.stderr.readline()
            assert line, "the server ended"
            found = re.search(r"running on http://127\.0\.0\.1:(\d+)", line)
        log = threading.Thread(target=process.stderr.read)  # a full pipe would stop the server
        log.start()
        yield process, int(found[1])
        process.kill()
        log.join()


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_train_serve_ask_and_stop(trained: tuple[Path, Path], server: tuple[subprocess.Popen[str], int]) -> None:
    """What the trainer measured on its held-out images is what the server answers for them, to the last image."""
    _, held_out = trained
    process, port = server
    while ask(port, "GET", "/health/ready")[0] != 200:
        assert process.poll() is None
    status, model = ask(port, "GET", "/model")
    assert status == 200
    files = sorted(held_out.rglob("*.png"))
    right = 0
    for file in files:
        status, answer = ask(port, "POST", "/predict", file.read_bytes())
        assert status == 200
        right += answer["predictions"][0]["label"] == file.parent.name
    metrics = model["metrics"]["test"]
    assert len(files) == metrics["images"]
    assert right == round(metrics["accuracy"] * metrics["images"])
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0
