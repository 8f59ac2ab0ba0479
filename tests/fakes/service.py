"""A running service in this process, and a client that calls it directly."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from app.decoding.zygote import Zygote
from app.main import create_app
from app.service import JOIN_SECONDS, RETRY_SECONDS
from app.serving.pipeline import Pipeline
from app.settings import Settings

ZYGOTE = Zygote()  # shared by all services of the tests; conftest.py closes it


@asynccontextmanager
async def serving(
    checkpoint: Path,
    *,
    retry_seconds: float = RETRY_SECONDS,
    join_seconds: float = JOIN_SECONDS,
    zygote: Zygote = ZYGOTE,
    **settings: object,
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service in this process that has loaded its model."""
    values = {"checkpoint": checkpoint, "dtype": "float32", "decode_threads": 2, **settings}
    app = create_app(Settings.model_validate(values), zygote, retry_seconds, join_seconds=join_seconds)
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
