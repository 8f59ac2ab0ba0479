"""What several test modules share: a small checkpoint with random weights, images, and a running service."""

import io
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from fastapi import FastAPI
from PIL import Image

from app.main import create_app
from app.pipeline import Pipeline
from app.settings import PREFIX, Settings
from models.checkpoint import Description, write
from models.golden import record
from models.preprocess import Preprocessing
from models.probabilities import Calibration
from models.registry import Architecture, build

LABELS = ("cat", "dog", "eel", "fox")


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Asynchronous tests run on the event loop that the service has."""
    return "asyncio", {"use_uvloop": True}


def random_image(seed: int = 0, size: tuple[int, int] = (40, 50)) -> Image.Image:
    """An RGB image of `size` (width, height): blocks of random colours, so that no decoder flattens it."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST)


def encoded(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    """The image as a file's bytes."""
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def write_checkpoint(
    path: Path,
    seed: int = 0,
    labels: tuple[str, ...] = LABELS,
    temperature: float = 1.0,
    calibration: Calibration | None = None,
) -> str:
    """Writes a small vgg11_bn with random weights and returns its version."""
    torch.manual_seed(seed)
    architecture = Architecture("vgg11_bn", len(labels), input_size=32, head="pooled", width=1 / 8)
    model = build(architecture).eval()
    preprocessing = Preprocessing(size=32, resize=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    golden = record(model, preprocessing, random_image())
    description = Description(
        architecture=architecture,
        labels=labels,
        preprocessing=preprocessing,
        golden=golden,
        temperature=temperature,
        calibration=calibration,
        seed=seed,
    )
    return write(path, description, model)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Small networks gain nothing from threads, and lose much where another process holds a core."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # a limit for the server's own choice


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have variables for a server of their own."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that no test may change."""
    path = tmp_path_factory.mktemp("checkpoints") / "small.safetensors"
    write_checkpoint(path)
    return path


@asynccontextmanager
async def serving(checkpoint: Path, **settings: object) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service in this process that has loaded its model."""
    app = create_app(Settings.model_validate({"checkpoint": checkpoint, "dtype": "float32", **settings}))
    async with app.router.lifespan_context(app), client_of(app) as client:
        await app.state.starting
        yield client


def client_of(app: FastAPI) -> httpx.AsyncClient:
    """A client that calls `app` directly."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


def pipeline_of(client: httpx.AsyncClient) -> Pipeline:
    with app_of(client).state.service.pipeline() as pipeline:
        assert isinstance(pipeline, Pipeline)
        return pipeline


def app_of(client: httpx.AsyncClient) -> Any:
    """The application that the client calls."""
    transport = client._transport
    assert isinstance(transport, httpx.ASGITransport)
    return transport.app


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` are skipped where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))
