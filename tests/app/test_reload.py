"""A new checkpoint takes over without a request lost, or not at all."""

import asyncio
import gc
import weakref
from pathlib import Path
from typing import NoReturn

import httpx
import pytest
import torch
import uvicorn

from app.main import create_app
from app.server import Server
from app.settings import Settings
from tests.fakes.checkpoints import write_small_checkpoint
from tests.fakes.gates import Gate
from tests.fakes.images import encoded, random_image
from tests.fakes.service import ZYGOTE, app_of, client_of, pipeline_of, serving

pytestmark = pytest.mark.anyio
IMAGE = encoded(random_image())
KEY = {"X-API-Key": "secret"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A checkpoint that a test may replace."""
    path = tmp_path / "model.safetensors"
    write_small_checkpoint(path)
    return path


def watch_swap(client: httpx.AsyncClient) -> asyncio.Event:
    """Set when the current model has been replaced and only waits for its last requests."""
    pipeline, swapped = pipeline_of(client), asyncio.Event()
    wait_until_zero = pipeline.requests.wait_until_zero

    async def watched() -> None:
        swapped.set()
        await wait_until_zero()

    pipeline.requests.wait_until_zero = watched  # type: ignore[method-assign]
    return swapped


async def test_the_new_checkpoint_answers_after_a_reload(path: Path) -> None:
    """Replacing the file and reloading changes the version and the labels that answer."""
    async with serving(path, api_keys="secret") as client:
        before = await client.post("/predict", content=IMAGE, headers=KEY)
        version = write_small_checkpoint(path, seed=1, labels=("a", "b", "c"))
        response = await client.post("/admin/reload", headers=KEY)
        assert response.status_code == 200
        assert response.json()["model"] == {"name": "vgg11_bn", "version": version}
        assert response.json()["previous"] == before.json()["model"]
        after = await client.post("/predict", content=IMAGE, headers=KEY)
        assert after.headers["x-model-version"] == version
        assert len(after.json()["predictions"][0]["probabilities"]) == 3
        assert (await client.get("/model", headers=KEY)).json()["labels"] == ["a", "b", "c"]
        metrics = (await client.get("/metrics")).text
        assert f'vgg_model_info{{name="vgg11_bn",version="{version}"}} 1.0' in metrics
        assert 'vgg_reloads_total{outcome="swapped"} 1.0' in metrics


async def test_the_model_before_is_freed_at_once(path: Path) -> None:
    """The model is in no reference cycle, so its memory is free without a garbage collection."""
    async with serving(path, api_keys="secret") as client:
        [classifier] = pipeline_of(client).model.classifiers
        old: list[weakref.ref[object]] = [weakref.ref(classifier), weakref.ref(classifier._model)]
        del classifier
        workers = pipeline_of(client)._workers
        gc.disable()
        try:
            assert (await client.post("/admin/reload", headers=KEY)).status_code == 200
            while workers:
                await asyncio.to_thread(workers.pop().join)
            assert [reference() for reference in old] == [None, None]
        finally:
            gc.enable()


async def test_requests_end_with_the_model_that_they_began_with(path: Path) -> None:
    """A request that waits while the model is swapped is answered by the old one, and the old one ends after it."""
    async with serving(path, api_keys="secret") as client:
        old = await client.get("/model", headers=KEY)
        swapped = watch_swap(client)
        with Gate(client) as gate:
            held = asyncio.ensure_future(client.post("/predict", content=IMAGE, headers=KEY))
            await gate.entered()
            version = write_small_checkpoint(path, seed=1)
            reloading = asyncio.ensure_future(client.post("/admin/reload", headers=KEY))
            await swapped.wait()
            new = await client.post("/predict", content=IMAGE, headers=KEY)
            assert new.headers["x-model-version"] == version
            assert not reloading.done()
        answer = await held
        assert answer.status_code == 200
        assert answer.headers["x-model-version"] == old.json()["version"]
        assert (await reloading).status_code == 200


def spoil(path: Path, fault: str) -> None:
    data = path.read_bytes()
    path.unlink()
    if fault != "missing":
        path.write_bytes(data[:-10] if fault == "truncated" else b"hello")


@pytest.mark.parametrize("fault", ["truncated", "missing", "text"])
async def test_a_bad_checkpoint_is_refused(path: Path, fault: str) -> None:
    """A file that cannot be served changes nothing: the answer names it, and the old model serves on."""
    async with serving(path, api_keys="secret") as client:
        before = (await client.get("/model", headers=KEY)).json()
        spoil(path, fault)
        response = await client.post("/admin/reload", headers=KEY)
        assert (response.status_code, response.json()["code"]) == (422, "invalid_checkpoint")
        assert path.name in response.json()["detail"]
        assert (await client.get("/model", headers=KEY)).json() == before
        assert (await client.post("/predict", content=IMAGE, headers=KEY)).status_code == 200
        assert (await client.get("/health/ready")).status_code == 200
        assert 'vgg_reloads_total{outcome="refused"} 1.0' in (await client.get("/metrics")).text


FAULTS = (
    torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB."),
    OSError(28, "No space left on device"),
)


@pytest.mark.parametrize("fault", FAULTS, ids=["memory", "disk"])
async def test_a_load_that_fails_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: Exception
) -> None:
    """Where the machine, not the checkpoint, is at fault, the answer says so and the log has it in one line."""

    def fail(*_: object) -> NoReturn:
        raise fault

    async with serving(path, api_keys="secret") as client:
        monkeypatch.setattr("app.serving.pipeline.load_classifier", fail)
        response = await client.post("/admin/reload", headers=KEY)
        assert (response.status_code, response.json()["code"]) == (500, "reload_failed")
        assert type(fault).__name__ in response.json()["detail"]
        assert (await client.post("/predict", content=IMAGE, headers=KEY)).status_code == 200
        assert (await client.get("/health/ready")).status_code == 200
        assert 'vgg_reloads_total{outcome="refused"} 1.0' in (await client.get("/metrics")).text
        server = Server(uvicorn.Config(app_of(client)), app_of(client).state.service)
        await server._reload()
        assert 'vgg_reloads_total{outcome="refused"} 2.0' in (await client.get("/metrics")).text
    [by_request, by_signal] = [record for record in caplog.records if "serves on" in record.message]
    assert (
        by_signal.message
        == f"SIGHUP: {type(fault).__name__}: {' '.join(str(fault).split())}; the model before it serves on"
    )
    assert by_request.exc_info is by_signal.exc_info is None


async def test_without_keys_nobody_may_reload(checkpoint: Path) -> None:
    """Where no API key is set the route does not exist; where one is, it is needed."""
    async with serving(checkpoint) as client:
        response = await client.post("/admin/reload")
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
    async with serving(checkpoint, api_keys="secret") as client:
        assert (await client.post("/admin/reload")).status_code == 401


async def model_status(client: httpx.AsyncClient, key: str) -> int:
    return (await client.get("/model", headers={"X-API-Key": key})).status_code


async def test_a_reload_reads_the_keys_again(path: Path, tmp_path: Path) -> None:
    """Keys in a file are rotated by writing it anew and reloading; one with no key in it is refused."""
    keys = tmp_path / "keys"
    keys.write_text("first\n")
    async with serving(path, api_keys_file=keys) as client:
        keys.write_text("second\nthird\n")
        assert (await client.post("/admin/reload", headers={"X-API-Key": "first"})).status_code == 200
        assert await model_status(client, "first") == 401
        assert await model_status(client, "third") == 200
        keys.write_text("\n")
        response = await client.post("/admin/reload", headers={"X-API-Key": "second"})
        assert (response.status_code, response.json()["code"]) == (422, "invalid_checkpoint")
        assert await model_status(client, "second") == 200


async def test_new_keys_count_where_the_checkpoint_is_refused(path: Path, tmp_path: Path) -> None:
    """A key that leaked can be revoked whatever state the checkpoint is in, by request and by signal."""
    keys = tmp_path / "keys"
    keys.write_text("first\n")
    async with serving(path, api_keys_file=keys) as client:
        spoil(path, "text")
        keys.write_text("second\n")
        assert (await client.post("/admin/reload", headers={"X-API-Key": "first"})).status_code == 422
        assert (await model_status(client, "first"), await model_status(client, "second")) == (401, 200)
        keys.write_text("third\n")
        await Server(uvicorn.Config(app_of(client)), app_of(client).state.service)._reload()
        assert (await model_status(client, "second"), await model_status(client, "third")) == (401, 200)


async def test_keys_that_cannot_be_read_are_one_line(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The keys before them stay, and the line names the file and not the key."""
    keys = tmp_path / "keys"
    keys.write_text("first\n")
    async with serving(path, api_keys_file=keys) as client:
        keys.write_text("hunter 2\n")
        assert (await client.post("/admin/reload", headers={"X-API-Key": "first"})).status_code == 422
        assert await model_status(client, "first") == 200
    [record] = [record for record in caplog.records if "serves on" in record.message]
    assert f"api_keys_file is {keys}" in record.message
    assert "hunter" not in caplog.text


async def test_keys_can_be_revoked_while_the_model_loads(checkpoint: Path, tmp_path: Path) -> None:
    """The reload takes the new keys at once and says that there is no model yet. One by signal waits for it."""
    keys = tmp_path / "keys"
    keys.write_text("first\n")
    app = create_app(
        Settings.model_validate({"checkpoint": checkpoint, "dtype": "float32", "api_keys_file": keys}), ZYGOTE
    )
    service = app.state.service
    async with client_of(app) as client:
        keys.write_text("second\n")
        response = await client.post("/admin/reload", headers={"X-API-Key": "first"})
        assert (response.status_code, response.json()["code"]) == (503, "not_ready")
        assert (await model_status(client, "first"), await model_status(client, "second")) == (401, 503)
        starting = asyncio.create_task(service.start())
        await asyncio.sleep(0)
        loaded = await service.reload()
        assert starting.done()
        assert service.health.ready
        with service.pipeline() as pipeline:
            assert pipeline.model is loaded
        await service.close()
