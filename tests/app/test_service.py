"""The service's health, as the model's threads move or do not."""

import asyncio
import threading
from pathlib import Path

import httpx
import pytest

from app.serving.replica_set import Condition, Progress
from tests.fakes.gates import Gate
from tests.fakes.images import encoded, random_image
from tests.fakes.service import app_of, pipeline_of, serving

pytestmark = pytest.mark.anyio
IMAGE = encoded(random_image())


async def probe(client: httpx.AsyncClient) -> tuple[int, int, str]:
    """The statuses of readiness and liveness, and the name of the phase."""
    ready, live = await client.get("/health/ready"), await client.get("/health/live")
    assert ready.status_code == 200 or ready.json()["reason"]
    return ready.status_code, live.status_code, ready.json()["status"]


async def test_a_model_that_does_not_move_is_not_ready_then_not_live(checkpoint: Path) -> None:
    """Its request ends by its deadline, new ones are sent away, and once the model moves again it is ready."""
    async with serving(checkpoint) as client:
        watchdog = pipeline_of(client)._watchdog
        with Gate(client) as gate:
            held = asyncio.ensure_future(client.post("/predict", content=IMAGE))
            await gate.entered()
            for looks, expected in ((30, (200, 200, "ready")), (1, (503, 200, "stuck")), (90, (503, 503, "hung"))):
                for _ in range(looks):
                    watchdog.look()
                await asyncio.sleep(0)
                assert await probe(client) == expected
            assert (await client.post("/predict", content=IMAGE)).json()["code"] == "not_ready"
            assert (await held).json()["code"] == "not_ready"
        while await probe(client) != (200, 200, "ready"):
            watchdog.look()
            await asyncio.to_thread(threading.Event().is_set)  # gives way to the event loop and to the model's thread
        assert (await client.post("/predict", content=IMAGE)).status_code == 200


async def test_one_replica_that_answers_is_enough(checkpoint: Path) -> None:
    """Whatever state the others are in, the service is ready. Without one, the best of the others decides."""
    async with serving(checkpoint, devices="cpu,cpu,cpu") as client:
        replicas = pipeline_of(client).replicas
        changes: list[tuple[int, Progress | Condition, tuple[int, int, str]]] = [
            (0, Progress.HUNG, (200, 200, "ready")),
            (1, Condition.UNHEALTHY, (200, 200, "ready")),
            (2, Progress.STUCK, (503, 200, "unwell")),
            (1, Condition.LOST, (503, 200, "stuck")),
            (2, Progress.HUNG, (503, 503, "hung")),
            (0, Condition.LOST, (503, 503, "hung")),
            (2, Condition.LOST, (503, 503, "lost")),
        ]
        for number, state, expected in changes:
            if isinstance(state, Progress):
                replicas.set_progress(number, state)
            else:
                replicas.set_condition(number, state)
            await asyncio.sleep(0)
            assert await probe(client) == expected


async def test_a_model_that_hangs_does_not_hold_the_end(checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The service is closed after a bounded wait, and the log names the thread."""
    async with serving(checkpoint, join_seconds=0.001) as client:
        with Gate(client) as gate:
            late = {"X-Request-Timeout": "0.001"}
            held = asyncio.ensure_future(client.post("/predict", content=IMAGE, headers=late))
            await gate.entered()
            assert (await held).status_code == 504
            await app_of(client).state.service.close()
    assert "the thread of replica cpu does not end" in caplog.text
