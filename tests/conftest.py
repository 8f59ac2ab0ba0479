"""Fixtures and settings that every test has."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from app.settings import PREFIX
from tests.fakes.checkpoints import write_small_checkpoint
from tests.fakes.service import ZYGOTE


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Asynchronous tests run on the event loop that the service has."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Small networks gain nothing from threads, and lose much where another process holds a core."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # a limit for the server's own choice


@pytest.fixture(scope="session", autouse=True)
def _end_decoders() -> Iterator[None]:
    """Ends the process that the tests' decoders are forked from."""
    yield
    ZYGOTE.close()


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have variables for a server of their own."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that no test may change."""
    path = tmp_path_factory.mktemp("checkpoints") / "small.safetensors"
    write_small_checkpoint(path)
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` are skipped where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))
