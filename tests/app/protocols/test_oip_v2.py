"""The Open Inference Protocol's routes, with tensors in JSON."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from app.health import Phase
from app.main import VERSION, create_app
from app.settings import Settings
from models.checkpoint import read_checkpoint, restore_model
from models.normalise import normalise
from models.preprocess import preprocess
from models.probabilities import softmax
from tests.fakes.checkpoints import LABELS
from tests.fakes.gates import Gate
from tests.fakes.images import encoded, random_image
from tests.fakes.service import ZYGOTE, app_of, client_of, serving

pytestmark = pytest.mark.anyio
IMAGES = [encoded(random_image(seed)) for seed in range(3)]
BASE64 = [base64.b64encode(image).decode() for image in IMAGES]
MODEL, TENSOR = "/v2/models/vgg11_bn", "/v2/models/vgg11_bn_tensor"


@pytest.fixture(scope="module")
async def client(checkpoint: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of one service for the whole module."""
    async with serving(
        checkpoint, max_images=4, queue_size=8, max_body_bytes=200_000, max_image_pixels=10_000
    ) as client:
        yield client


@pytest.fixture(scope="module")
def version(checkpoint: Path) -> str:
    return read_checkpoint(checkpoint).version


@pytest.fixture(scope="module")
def pixels(checkpoint: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(3, 3, 32, 32): the normalised pixels of IMAGES."""
    preprocessing = read_checkpoint(checkpoint).metadata.preprocessing
    batch = np.stack([preprocess(random_image(seed), preprocessing) for seed in range(3)])
    return np.ascontiguousarray(normalise(torch.from_numpy(batch), preprocessing).numpy())


@pytest.fixture(scope="module")
def logits(checkpoint: Path, pixels: np.ndarray[Any, np.dtype[np.float32]]) -> torch.Tensor:
    """(3, 4): what the trained network gives for IMAGES, without any of the service."""
    with torch.inference_mode():
        result: torch.Tensor = restore_model(read_checkpoint(checkpoint))(torch.from_numpy(pixels))
        return result


def request_of(images: list[str], **fields: object) -> dict[str, Any]:
    return {"inputs": [{"name": "image", "shape": [len(images)], "datatype": "BYTES", "data": images}], **fields}


def error_of(response: httpx.Response) -> tuple[int, str]:
    """The status and the message of an error, whose form is checked on the way."""
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    assert list(response.json()) == ["error"]
    message = response.json()["error"]
    assert isinstance(message, str)
    return response.status_code, message


async def test_the_server_describes_itself(client: httpx.AsyncClient) -> None:
    """Both spellings of the path give the server's name, version and extensions."""
    extensions = ["binary_tensor_data", "classification", "model_configuration", "model_repository", "statistics"]
    for path in ("/v2", "/v2/"):
        answer = (await client.get(path)).json()
        assert answer == {"name": "vggserve", "version": VERSION, "extensions": extensions}


async def test_health_is_in_the_status_and_in_the_body(client: httpx.AsyncClient) -> None:
    """A ready server says so for itself and for each model."""
    assert (await client.get("/v2/health/live")).json() == {"live": True}
    assert (await client.get("/v2/health/ready")).json() == {"ready": True}
    assert (await client.get(f"{TENSOR}/ready")).json() == {"name": "vgg11_bn_tensor", "ready": True}


async def test_both_models_are_described(client: httpx.AsyncClient, version: str) -> None:
    """They differ in their one input, and have the same outputs."""
    inputs = {
        MODEL: {"name": "image", "datatype": "BYTES", "shape": [-1]},
        TENSOR: {"name": "input", "datatype": "FP32", "shape": [-1, 3, 32, 32]},
    }
    for path, expected in inputs.items():
        metadata = (await client.get(path)).json()
        assert metadata == (await client.get(f"{path}/versions/{version}")).json()
        assert metadata == {
            "name": path.rpartition("/")[2],
            "versions": [version],
            "platform": "pytorch",
            "inputs": [expected],
            "outputs": [
                {"name": "probabilities", "datatype": "FP32", "shape": [-1, 4]},
                {"name": "logits", "datatype": "FP32", "shape": [-1, 4]},
                {"name": "label", "datatype": "BYTES", "shape": [-1]},
            ],
        }


async def test_the_configuration_leaves_the_batch_out_of_shapes(client: httpx.AsyncClient) -> None:
    """As in Triton's ModelConfig, `max_batch_size` stands for the first dimension."""
    config = (await client.get(f"{TENSOR}/config")).json()
    assert (config["name"], config["max_batch_size"], config["dynamic_batching"]) == ("vgg11_bn_tensor", 4, {})
    assert config["input"] == [{"name": "input", "data_type": "TYPE_FP32", "dims": [3, 32, 32]}]
    assert [output["dims"] for output in config["output"]] == [[4], [4], []]


@pytest.mark.parametrize("path", ["/v2", MODEL, f"{MODEL}/config", f"{MODEL}/ready", f"{MODEL}/stats"])
async def test_get_routes_answer_head(client: httpx.AsyncClient, path: str) -> None:
    """As every GET route of the server does."""
    assert (await client.head(path)).status_code == 200


async def test_probabilities_are_the_default_output(
    client: httpx.AsyncClient, version: str, logits: torch.Tensor
) -> None:
    """Without `outputs` the answer has the network's own probabilities of every image, row by row."""
    response = await client.post(f"{MODEL}/infer", json=request_of(BASE64, id="seven"))
    answer = response.json()
    [output] = answer.pop("outputs")
    assert answer == {"model_name": "vgg11_bn", "model_version": version, "id": "seven"}
    assert (output["name"], output["datatype"], output["shape"]) == ("probabilities", "FP32", [3, 4])
    assert np.allclose(np.reshape(output["data"], (3, 4)), softmax(logits), atol=1e-5)
    assert response.headers["x-model-version"] == version
    assert "decode;dur=" in response.headers["server-timing"]


async def test_outputs_come_in_the_order_asked_for(client: httpx.AsyncClient, logits: torch.Tensor) -> None:
    """Labels are strings, logits are what the network gives."""
    wanted = [{"name": "label"}, {"name": "logits"}]
    response = await client.post(
        f"{MODEL}/versions/{(await version_of(client))}/infer", json=request_of(BASE64, outputs=wanted)
    )
    label, raw = response.json()["outputs"]
    best = [LABELS[index] for index in logits.argmax(1)]
    assert label == {"name": "label", "datatype": "BYTES", "shape": [3], "data": best}
    assert np.allclose(np.reshape(raw["data"], (3, 4)), logits, atol=1e-4)
    assert "id" not in response.json()


async def version_of(client: httpx.AsyncClient) -> str:
    versions: list[str] = (await client.get(MODEL)).json()["versions"]
    return versions[0]


async def test_normalised_pixels_get_the_answer_of_their_image(
    client: httpx.AsyncClient, pixels: np.ndarray[Any, np.dtype[np.float32]], logits: torch.Tensor
) -> None:
    """As nested lists and as a flat one."""
    for data in (pixels[:1].tolist(), pixels[:1].ravel().tolist()):
        tensor = {"name": "input", "shape": [1, 3, 32, 32], "datatype": "FP32", "data": data}
        response = await client.post(f"{TENSOR}/infer", json={"inputs": [tensor], "outputs": [{"name": "logits"}]})
        assert np.allclose(response.json()["outputs"][0]["data"], logits[0], atol=1e-4)


async def test_a_long_document_is_parsed_too(client: httpx.AsyncClient) -> None:
    """From 64 KiB on in a thread, so that others are answered meanwhile."""
    tensor = {"name": "input", "shape": [2, 3, 32, 32], "datatype": "FP32", "data": [0.123456789] * 6144}
    response = await client.post(f"{TENSOR}/infer", json={"inputs": [tensor]})
    assert response.json()["outputs"][0]["shape"] == [2, 4]


async def test_classification_gives_the_best_labels(client: httpx.AsyncClient, logits: torch.Tensor) -> None:
    """`value:index:label`, the best first; more classes than there are give all."""
    for count, given in ((2, 2), (9, 4)):
        outputs = [{"name": "logits", "parameters": {"classification": count}}]
        response = await client.post(f"{MODEL}/infer", json=request_of(BASE64[:2], outputs=outputs))
        [output] = response.json()["outputs"]
        assert (output["datatype"], output["shape"]) == ("BYTES", [2, given])
        for row, text in enumerate(output["data"][::given]):
            value, index, label = text.split(":")
            best = int(logits[row].argmax())
            assert (int(index), label) == (best, LABELS[best])
            assert float(value) == pytest.approx(float(logits[row, best]), abs=1e-4)


async def test_the_head_of_a_data_uri_and_line_breaks_are_passed_over(client: httpx.AsyncClient) -> None:
    """Base64 of an image is often wrapped, and browsers give a URI."""
    wrapped = base64.encodebytes(IMAGES[0]).decode()
    for text in (wrapped, f"data:image/png;base64,{BASE64[0]}"):
        assert (await client.post(f"{MODEL}/infer", json=request_of([text]))).status_code == 200


GOOD = request_of(BASE64[:1])
INPUT = GOOD["inputs"][0]
FLOATS = {"name": "input", "shape": [1, 3, 32, 32], "datatype": "FP32"}


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        (MODEL, b"{", ["JSON"]),
        (MODEL, [], ["body"]),
        (MODEL, {}, ["inputs"]),
        (MODEL, {"inputs": []}, ["no input", "image"]),
        (MODEL, {"inputs": [INPUT, INPUT]}, ["2 inputs", "image"]),
        (MODEL, {"inputs": [INPUT | {"name": "input"}]}, ["'input'", "image"]),
        (MODEL, {"inputs": [INPUT | {"name": "x" * 5000}]}, ["xxx"]),
        (MODEL, {"inputs": [INPUT | {"datatype": "FP32"}]}, ["'FP32'", "BYTES"]),
        (MODEL, {"inputs": [INPUT | {"shape": [1, 1]}]}, ["[1, 1]", "[-1]"]),
        (MODEL, {"inputs": [INPUT | {"shape": [0]}]}, ["[0]"]),
        (MODEL, {"inputs": [INPUT | {"shape": [-1]}]}, ["[-1]"]),
        (MODEL, {"inputs": [INPUT | {"shape": [1.5]}]}, ["shape", "integer"]),
        (MODEL, {"inputs": [INPUT | {"shape": [2]}]}, ["1 elements", "2"]),
        (MODEL, {"inputs": [INPUT | {"data": "text"}]}, ["list"]),
        (MODEL, {"inputs": [INPUT | {"data": [7]}]}, ["strings"]),
        (MODEL, {"inputs": [INPUT | {"data": ["a b="]}]}, ["Element 0", "' '"]),
        (MODEL, {"inputs": [INPUT | {"data": [""]}]}, ["Element 0", "no bytes"]),
        (MODEL, {"inputs": [{name: INPUT[name] for name in ("name", "shape", "datatype")}]}, ["binary_data_size"]),
        (MODEL, {"inputs": [INPUT | {"parameters": {"shared_memory_region": "a"}}]}, ["Shared memory"]),
        (MODEL, GOOD | {"id": 7}, ["id", "string"]),
        (MODEL, GOOD | {"outputs": [{"name": "scores"}]}, ["'scores'", "probabilities"]),
        (MODEL, GOOD | {"outputs": [{"name": "label"}] * 2}, ["label", "more than once"]),
        (MODEL, GOOD | {"outputs": [{"name": "label", "parameters": {"classification": 1}}]}, ["label"]),
        (MODEL, GOOD | {"outputs": [{"name": "logits", "parameters": {"classification": -1}}]}, ["classification"]),
        (
            MODEL,
            GOOD | {"outputs": [{"name": "label", "parameters": {"shared_memory_region": "a"}}]},
            ["Shared memory"],
        ),
        (MODEL, GOOD | {"parameters": {"timeout": -1}}, ["timeout"]),
        (TENSOR, GOOD, ["'image'", "input"]),
        (TENSOR, {"inputs": [FLOATS | {"data": [1.0]}]}, ["1 elements", "3072"]),
        (TENSOR, {"inputs": [FLOATS | {"data": ["1"] * 3072}]}, ["numbers"]),
        (TENSOR, {"inputs": [FLOATS | {"data": [None] * 3072}]}, ["numbers"]),
        (TENSOR, {"inputs": [FLOATS | {"data": [True] * 3072}]}, ["numbers"]),
        (TENSOR, {"inputs": [FLOATS | {"data": [1e300] * 3072}]}, ["finite"]),
        (TENSOR, {"inputs": [FLOATS | {"data": [-1e7] * 3072}]}, ["1e+06"]),
        (TENSOR, {"inputs": [FLOATS | {"data": [[1.0], 2.0]}]}, ["deep"]),
        (TENSOR, {"inputs": [FLOATS | {"shape": [1, 32, 32, 3], "data": [0.0] * 3072}]}, ["[1, 32, 32, 3]"]),
    ],
)
async def test_a_bad_request_is_400_and_says_why(
    client: httpx.AsyncClient, path: str, body: Any, words: list[str]
) -> None:
    """The message names the tensor or field, its value and what is allowed, and is short."""
    content = {"content": body} if isinstance(body, bytes) else {"json": body}
    status, message = error_of(await client.post(f"{path}/infer", **content))
    assert status == 400, message
    assert all(word in message for word in words), message
    assert len(message) < 300


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        ("/v2/models/nope/infer", b"{}", 404),
        (f"{MODEL}/versions/1/infer", b"{}", 404),
        (f"{MODEL}/infer", b"x" * 200_001, 413),
        (f"{MODEL}/infer", b'{"inputs":[' + b"{}," * 1000 + b"{}]}", 413),
    ],
)
async def test_other_faults_have_the_native_statuses(
    client: httpx.AsyncClient, path: str, content: bytes, status: int
) -> None:
    """Unknown models, large bodies, and many values, which are refused before they are parsed."""
    assert error_of(await client.post(path, content=content))[0] == status


async def test_a_body_of_tiny_values_is_413(checkpoint: Path) -> None:
    """They would take far more memory than their bytes: at most one value for every 8 bytes of the largest body."""
    tensor = {"name": "input", "shape": [1, 3, 32, 32], "datatype": "FP32", "data": [0] * 3072}
    async with serving(checkpoint, max_body_bytes=20_000) as client:
        status, message = error_of(await client.post(f"{TENSOR}/infer", json={"inputs": [tensor]}))
    assert (status, message.rpartition(", ")[2]) == (413, "more than the allowed 2500.")


async def test_too_many_images_are_413(client: httpx.AsyncClient) -> None:
    """The limit is `max_images`, as on the native route."""
    status, message = error_of(await client.post(f"{MODEL}/infer", json=request_of(BASE64[:1] * 5)))
    assert (status, message) == (413, "The request has 5 images, more than the allowed 4.")


@pytest.mark.parametrize(
    ("image", "status"), [(b"hello", 415), (IMAGES[0][:60], 422), (encoded(random_image(size=(200, 100))), 413)]
)
async def test_an_image_that_fails_fails_its_request(client: httpx.AsyncClient, image: bytes, status: int) -> None:
    """A tensor has no place for an error, so the first image's error is the request's."""
    images = [BASE64[0], base64.b64encode(image).decode()]
    assert error_of(await client.post(f"{MODEL}/infer", json=request_of(images)))[0] == status


async def test_unknown_paths_and_methods_have_the_form_too(client: httpx.AsyncClient) -> None:
    """404 and 405 come from the router and are in the protocol's form under /v2 alone."""
    assert error_of(await client.get("/v2/nope"))[0] == 404
    response = await client.get(f"{MODEL}/infer")
    assert error_of(response)[0] == 405
    assert response.headers["allow"] == "POST"
    assert (await client.get("/v2x")).headers["content-type"] == "application/problem+json"


async def test_a_bad_deadline_is_422(client: httpx.AsyncClient) -> None:
    """X-Request-Timeout is checked as on native routes."""
    response = await client.post(f"{MODEL}/infer", json=GOOD, headers={"X-Request-Timeout": "soon"})
    assert error_of(response)[0] == 422


async def test_a_timeout_in_microseconds_is_a_deadline(client: httpx.AsyncClient) -> None:
    """The image is late while the model is busy; a timeout of 0 means none."""
    with Gate(client):
        status, _ = error_of(await client.post(f"{MODEL}/infer", json=GOOD | {"parameters": {"timeout": 20_000}}))
    assert status == 504
    response = await client.post(f"{MODEL}/infer", json=GOOD | {"parameters": {"timeout": 0}})
    assert response.status_code == 200


async def test_a_full_queue_is_429(checkpoint: Path) -> None:
    """Tensors take places in the same queue as images."""
    async with serving(checkpoint, queue_size=1) as client:
        with app_of(client).state.service.pipeline() as pipeline, pipeline.queue.reserve(1, float("inf")):
            response = await client.post(f"{TENSOR}/infer", content=b"")
        assert error_of(response)[0] == 429
        assert int(response.headers["retry-after"]) >= 1


async def test_the_values_of_a_document_count_as_memory(checkpoint: Path) -> None:
    """Two bytes of JSON become a float of 32 bytes: the sum of all bodies allows for that."""
    tensor = {"name": "input", "shape": [2, 3, 32, 32], "datatype": "FP32", "data": [0] * 6144}
    async with serving(checkpoint) as client:
        memory = app_of(client).state.service.body_memory
        for limit_bytes, status in ((32 * 6144, 429), (40 * 6144, 200)):
            memory.limit_bytes = limit_bytes
            response = await client.post(f"{TENSOR}/infer", json={"inputs": [tensor]})
            assert response.status_code == status, response.text
        assert memory.used_bytes == 0


async def test_before_the_model_is_loaded_nothing_is_ready(checkpoint: Path) -> None:
    """The server is alive and knows no model yet."""
    client = client_of(create_app(Settings.model_validate({"checkpoint": checkpoint}), ZYGOTE))
    assert (await client.get("/v2/health/live")).status_code == 200
    response = await client.get("/v2/health/ready")
    assert (response.status_code, response.json()["ready"]) == (503, False)
    for path in (MODEL, f"{MODEL}/ready", f"{MODEL}/config", f"{MODEL}/stats", "/v2/models/stats"):
        response = await client.get(path)
        assert error_of(response)[0] == 503
        assert "retry-after" in response.headers


async def test_after_the_drain_the_error_has_the_form_too(checkpoint: Path) -> None:
    """A request on a kept connection is told to go elsewhere. Health is still answered."""
    async with serving(checkpoint) as client:
        app_of(client).state.service.health.enter(Phase.CLOSED, "the server no longer accepts requests")
        response = await client.post(f"{MODEL}/infer", json=GOOD)
        assert error_of(response)[0] == 503
        assert response.headers["connection"] == "close"
        assert (await client.get("/v2/health/live")).status_code == 200
        assert (await client.get("/v2/health/ready")).json()["error"] == "the server no longer accepts requests"


async def test_keys_guard_inference_and_the_repository(checkpoint: Path) -> None:
    """Health and metadata stay open."""
    async with serving(checkpoint, api_keys="secret") as client:
        for path in (f"{MODEL}/infer", "/v2/repository/index", "/v2/repository/models/vgg11_bn/load"):
            response = await client.post(path, json={})
            assert error_of(response)[0] == 401
            assert response.headers["www-authenticate"] == "Bearer"
        for path in ("/v2", "/v2/health/ready", MODEL, f"{MODEL}/config", f"{MODEL}/stats"):
            assert (await client.get(path)).status_code == 200
        response = await client.post(f"{MODEL}/infer", json=GOOD, headers={"Authorization": "Bearer secret"})
        assert response.status_code == 200


async def test_statistics_count_requests_images_and_batches(checkpoint: Path) -> None:
    """All keys that perf_analyzer reads are there. A failed request counts as such."""
    async with serving(checkpoint, max_batch=4) as client:
        await client.post(f"{MODEL}/infer", json=request_of(BASE64))
        await client.post(f"{MODEL}/infer", json=request_of(BASE64[:1]))
        await client.post(f"{MODEL}/infer", json={})
        [stats] = (await client.get(f"{MODEL}/stats")).json()["model_stats"]
        both = (await client.get("/v2/models/stats")).json()["model_stats"]
    assert [model["name"] for model in both] == ["vgg11_bn", "vgg11_bn_tensor"]
    assert both[1]["inference_count"] == both[1]["execution_count"] == both[1]["last_inference"] == 0
    assert stats["inference_count"] == 4
    assert stats["last_inference"] > 0
    durations = stats["inference_stats"]
    assert (durations["success"]["count"], durations["fail"]["count"]) == (2, 1)
    for name in ("queue", "compute_input", "compute_infer", "compute_output"):
        assert durations[name]["count"] == 2
        assert 0 <= durations[name]["ns"] <= durations["success"]["ns"]
    assert durations["compute_infer"]["ns"] > 0
    assert durations["cache_hit"] == durations["cache_miss"] == {"count": 0, "ns": 0}
    executions = {batch["batch_size"]: batch["compute_infer"]["count"] for batch in stats["batch_stats"]}
    assert sum(size * count for size, count in executions.items()) == 4
    assert sum(executions.values()) == stats["execution_count"]
