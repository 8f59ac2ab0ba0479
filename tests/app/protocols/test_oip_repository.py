"""Triton's model repository extension."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from app.health import Phase
from tests.fakes.checkpoints import write_small_checkpoint
from tests.fakes.service import app_of, pipeline_of, serving

pytestmark = pytest.mark.anyio
LOAD = "/v2/repository/models/vgg11_bn/load"


@pytest.fixture
async def client(path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(path) as client:
        yield client


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A checkpoint that the test may change."""
    write_small_checkpoint(tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


async def test_the_index_lists_both_models(client: httpx.AsyncClient) -> None:
    """With and without a body."""
    version = (await client.get("/v2/models/vgg11_bn")).json()["versions"][0]
    for content in (b"", b"{}", b'{"ready": true}'):
        models = (await client.post("/v2/repository/index", content=content)).json()
        assert models == [
            {"name": name, "version": version, "state": "READY", "reason": ""}
            for name in ("vgg11_bn", "vgg11_bn_tensor")
        ]


async def test_loading_a_model_reloads_the_checkpoint(client: httpx.AsyncClient, path: Path) -> None:
    """A new file takes over. A bad one is refused, and the model before it serves on."""
    version = write_small_checkpoint(path, seed=1)
    assert (await client.post(LOAD)).json() == {}
    assert (await client.get("/v2/models/vgg11_bn")).json()["versions"] == [version]
    await asyncio.to_thread(path.write_bytes, b"hello")
    response = await client.post(LOAD, json={"parameters": {}})
    assert response.status_code == 422
    assert "serves on" in response.json()["error"]
    assert (await client.get("/v2/models/vgg11_bn/ready")).status_code == 200


async def test_the_index_tells_why_a_model_is_not_ready(client: httpx.AsyncClient) -> None:
    """Such a model is left out where only ready ones are asked for."""
    app_of(client).state.service.health.enter(Phase.UNWELL, "every replica of the model fails its golden check")
    models = (await client.post("/v2/repository/index")).json()
    assert {(model["state"], model["reason"][:13]) for model in models} == {("UNAVAILABLE", "every replica")}
    assert (await client.post("/v2/repository/index", json={"ready": True})).json() == []


@pytest.mark.parametrize(
    ("request_path", "content", "status", "words"),
    [
        ("/v2/repository/models/vgg11_bn/unload", b"", 400, "cannot be unloaded"),
        ("/v2/repository/models/nope/unload", b"", 404, "'nope'"),
        ("/v2/repository/models/nope/load", b"", 404, "'nope'"),
        (LOAD, b'{"parameters": {"config": "{}"}}', 400, "'config'"),
        (LOAD, b'{"parameters": {"file:1/model.pt": ""}}', 400, "'file:1/model.pt'"),
        (LOAD, b'{"parameters": []}', 200, ""),
        (LOAD, b'{"parameters": [1]}', 400, "parameters"),
        (LOAD, b"[]", 400, "object"),
        ("/v2/repository/index", b"{", 400, "JSON"),
        ("/v2/repository/index", b"[" * 1000, 413, "values"),
    ],
)
async def test_what_is_refused(
    client: httpx.AsyncClient, request_path: str, content: bytes, status: int, words: str
) -> None:
    """Unloading, unknown models, overrides of the checkpoint, and bodies that are no JSON object."""
    response = await client.post(request_path, content=content)
    assert response.status_code == status
    assert words in response.json().get("error", "")


async def test_a_full_queue_does_not_hold_up_a_load(client: httpx.AsyncClient) -> None:
    """A reload may be what mends the replicas, so it does not ask whether they can take images."""
    pipeline = pipeline_of(client)
    with pipeline.queue.reserve(pipeline.queue.capacity, float("inf")):
        assert (await client.post("/v2/models/vgg11_bn/infer")).status_code == 429
        assert (await client.post("/v2/repository/index")).status_code == 200
        assert (await client.post(LOAD)).status_code == 200
