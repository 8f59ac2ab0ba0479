"""Routes for SageMaker, Vertex AI and KServe's first protocol."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.health import Phase
from app.http.schemas import PredictionItem
from app.main import create_app
from app.settings import Settings
from tests.fakes.images import encoded, random_image
from tests.fakes.service import ZYGOTE, app_of, client_of, serving

pytestmark = pytest.mark.anyio
IMAGES = [encoded(random_image(seed)) for seed in range(2)]
BASE64 = [base64.b64encode(image).decode() for image in IMAGES]
INSTANCES = {"instances": [{"b64": text} for text in BASE64]}
V1, VERTEX = "/v1/models/vgg11_bn:predict", "/v1/endpoints/1/deployedModels/2:predict"
PROBE = "/v1/endpoints/1/deployedModels/2"


@pytest.fixture(scope="module")
async def client(checkpoint: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of one service for the whole module."""
    async with serving(
        checkpoint, max_images=2, queue_size=8, vertex_health_route=PROBE, vertex_predict_route=VERTEX
    ) as client:
        yield client


async def test_sagemaker_gets_native_answers(client: httpx.AsyncClient) -> None:
    """`/invocations` takes what `/predict` takes, query included, and answers alike."""
    assert (await client.get("/ping")).status_code == 200
    for body in ({"content": IMAGES[0]}, {"json": INSTANCES}):
        answers = [(await client.post(f"{path}?top_k=1", **body)).json() for path in ("/predict", "/invocations")]
        assert answers[0] == answers[1]
    response = await client.post("/invocations", content=b"")
    assert (response.status_code, response.json()["code"]) == (400, "bad_request")


@pytest.mark.parametrize("path", [V1, VERTEX])
async def test_instances_get_predictions(client: httpx.AsyncClient, path: str) -> None:
    """The object has the predictions of the native route and nothing else."""
    response = await client.post(path, json=INSTANCES)
    native = (await client.post("/predict", json=INSTANCES)).json()["predictions"]
    assert response.json() == {"predictions": native}
    [PredictionItem.model_validate(item, extra="forbid") for item in native]
    assert response.headers["x-model-version"]


@pytest.mark.parametrize(
    "instance",
    [
        {"image_bytes": {"b64": BASE64[0]}},
        {"data": BASE64[0]},
        {"data": {"b64": BASE64[0]}, "key": "1"},
        {"image": BASE64[0]},
        {"b64": f"data:image/png;base64,{BASE64[0]}"},
        BASE64[0],
    ],
)
async def test_instances_have_several_forms(client: httpx.AsyncClient, instance: Any) -> None:
    """Clients of TensorFlow Serving, TorchServe and Vertex AI each name the image in their own way."""
    [prediction] = (await client.post(V1, json={"instances": [instance]})).json()["predictions"]
    assert prediction["error"] is None


async def test_parameters_are_those_of_the_query(client: httpx.AsyncClient) -> None:
    """In the body, as Vertex AI sends them, or in the URL."""
    for path, parameters in ((VERTEX, {"top_k": 2}), (f"{V1}?top_k=2", {})):
        answer = (await client.post(path, json=INSTANCES | {"parameters": parameters})).json()
        assert [len(prediction["top"]) for prediction in answer["predictions"]] == [2, 2]
    response = await client.post(VERTEX, json=INSTANCES | {"parameters": {"top_k": 9}})
    assert (response.status_code, list(response.json())) == (422, ["error"])


async def test_an_instance_that_fails_has_an_error_in_its_place(client: httpx.AsyncClient) -> None:
    """If all fail, the first one's error is the answer."""
    for bad, status in (({"b64": "?"}, 400), ({"text": "hi"}, 400), (7, 400), ({"b64": "aGVsbG8="}, 415)):
        answer = (await client.post(V1, json={"instances": [bad, INSTANCES["instances"][0]]})).json()
        assert [item["error"] and item["error"]["status"] for item in answer["predictions"]] == [status, None]
        response = await client.post(V1, json={"instances": [bad]})
        assert (response.status_code, list(response.json())) == (status, ["error"])


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'{"instances": []}', 400),
        (b'{"instances": {}}', 400),
        (b'{"instances": ["a"], "parameters": "b"}', 400),
        (b'{"instances": ["a", "b", "c"]}', 413),
        (b'{"instances": [' + b"{}," * 1000 + b"{}]}", 413),
    ],
)
async def test_bad_bodies_are_refused_in_each_form(client: httpx.AsyncClient, body: bytes, status: int) -> None:
    """An error under /v1 is an object with one string. The model's name is checked first."""
    response = await client.post(V1, content=body)
    assert (response.status_code, list(response.json())) == (status, ["error"])
    response = await client.post("/v1/models/nope:predict", content=body)
    assert (response.status_code, list(response.json())) == (404, ["error"])


async def test_the_model_is_listed_and_ready(client: httpx.AsyncClient) -> None:
    """KServe's first protocol knows its name alone; Vertex AI's probe has a path of its own."""
    assert (await client.get("/v1/models")).json() == {"models": ["vgg11_bn"]}
    assert (await client.get("/v1/models/vgg11_bn")).json() == {"name": "vgg11_bn", "ready": True}
    response = await client.get("/v1/models/nope")
    assert (response.status_code, list(response.json())) == (404, ["error"])
    assert (await client.get(PROBE)).json() == {"status": "ready"}


async def test_before_the_model_is_loaded_probes_fail(checkpoint: Path) -> None:
    """All of them with 503."""
    settings = Settings.model_validate({"checkpoint": checkpoint, "vertex_health_route": PROBE})
    client = client_of(create_app(settings, ZYGOTE))
    for path in ("/ping", PROBE, "/v1/models", "/v1/models/vgg11_bn"):
        assert (await client.get(path)).status_code == 503


async def test_an_unwell_model_is_not_ready(checkpoint: Path) -> None:
    """Probes tell the reason."""
    async with serving(checkpoint) as client:
        app_of(client).state.service.health.enter(Phase.UNWELL, "every replica of the model fails its golden check")
        response = await client.get("/v1/models/vgg11_bn")
        assert response.status_code == 503
        assert response.json()["error"] == "every replica of the model fails its golden check"
        assert (await client.get("/ping")).status_code == 503


async def test_keys_guard_what_classifies(checkpoint: Path) -> None:
    """Probes and names stay open."""
    async with serving(checkpoint, api_keys="secret", vertex_health_route=PROBE, vertex_predict_route=VERTEX) as client:
        for path in ("/invocations", V1, VERTEX, "/"):
            assert (await client.post(path, json=INSTANCES)).status_code == 401
        for path in ("/ping", PROBE, "/v1/models", "/v1/models/vgg11_bn"):
            assert (await client.get(path)).status_code == 200
        assert (await client.post(V1, json=INSTANCES, headers={"X-API-Key": "secret"})).status_code == 200
