"""The native routes, over HTTP messages, in one process."""

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from app.decoding.zygote import Zygote
from app.http.schemas import ModelInfo, Predictions
from app.main import create_app
from app.serving.entry import NetworkInput
from app.settings import Settings
from models.checkpoint import read_checkpoint, restore_model
from models.normalise import normalise
from models.predictions import Logits
from models.preprocess import preprocess
from models.probabilities import Calibration, prediction_sets, quantile_table, ranked_scores, softmax
from models.typicality import energy, typicality
from tests.fakes.checkpoints import LABELS, write_small_checkpoint
from tests.fakes.gates import Gate
from tests.fakes.images import encoded, random_image
from tests.fakes.service import ZYGOTE, app_of, client_of, pipeline_of, serving

pytestmark = pytest.mark.anyio
PROBLEM = "application/problem+json"
IMAGE = encoded(random_image())
BROKEN = IMAGE[:60]


@pytest.fixture(scope="module")
async def client(checkpoint: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of one service for the whole module."""
    async with serving(
        checkpoint, max_images=4, queue_size=8, max_body_bytes=100_000, max_image_pixels=10_000
    ) as client:
        yield client


def code(response: httpx.Response) -> tuple[int, str]:
    """The status and code of a problem document, whose form is checked on the way."""
    document = response.json()
    assert response.headers["content-type"] == PROBLEM
    assert set(document) == {"title", "status", "detail", "code", "request_id"}
    assert document["status"] == response.status_code
    assert document["request_id"] == response.headers["x-request-id"]
    return response.status_code, document["code"]


def expected(checkpoint: Path, seed: int = 0) -> list[float]:
    """The probabilities that the trained network gives, without any of the service."""
    loaded = read_checkpoint(checkpoint)
    preprocessing = loaded.metadata.preprocessing
    batch = torch.from_numpy(preprocess(random_image(seed), preprocessing)[None].copy())
    with torch.inference_mode():
        return list(softmax(restore_model(loaded)(normalise(batch, preprocessing)))[0].tolist())


async def test_a_raw_body_is_answered(client: httpx.AsyncClient, checkpoint: Path) -> None:
    """The bytes of one image get the network's own probabilities."""
    response = await client.post("/predict", content=IMAGE)
    assert response.status_code == 200
    answer = response.json()
    [prediction] = answer["predictions"]
    assert answer["model"] == {"name": "vgg11_bn", "version": read_checkpoint(checkpoint).version}
    assert np.allclose(prediction["probabilities"], expected(checkpoint), atol=1e-5)
    assert abs(sum(prediction["probabilities"]) - 1) < 1e-3
    best = int(np.argmax(prediction["probabilities"]))
    assert (prediction["index"], prediction["label"]) == (best, LABELS[best])
    assert prediction["probability"] == prediction["probabilities"][best] == prediction["top"][0]["probability"]
    assert (prediction["typicality"], prediction["error"]) == (None, None)
    assert {"filename", "prediction_set"}.isdisjoint(prediction)


async def test_an_answer_has_its_headers(client: httpx.AsyncClient, checkpoint: Path) -> None:
    """A prediction says which version answered, how long its steps took, and repeats the caller's id."""
    response = await client.post("/predict", content=IMAGE, headers={"X-Request-ID": "abc-1"})
    assert response.headers["x-request-id"] == "abc-1"
    assert response.headers["x-model-version"] == read_checkpoint(checkpoint).version
    steps = [step.split(";dur=") for step in response.headers["server-timing"].split(", ")]
    assert [name for name, _ in steps] == ["decode", "queue", "model", "total"]
    assert all(float(ms) >= 0 for _, ms in steps)


async def test_answers_match_their_schema(client: httpx.AsyncClient) -> None:
    """The answers, which are built without a validation pass, are what the OpenAPI document says."""
    files = [("f", ("a.png", IMAGE)), ("f", ("b.png", BROKEN))]
    Predictions.model_validate((await client.post("/predict", files=files)).json(), extra="forbid")
    ModelInfo.model_validate((await client.get("/model")).json(), extra="forbid")


@pytest.mark.parametrize(
    "media_type", ["image/png", "image/jpeg", "application/octet-stream", "application/x-www-form-urlencoded"]
)
async def test_the_declared_type_of_a_raw_body_does_not_matter(client: httpx.AsyncClient, media_type: str) -> None:
    """An image is recognised by its content."""
    response = await client.post("/predict", content=IMAGE, headers={"Content-Type": media_type})
    assert response.status_code == 200


async def test_all_three_forms_give_the_same_answer(client: httpx.AsyncClient) -> None:
    """Raw, multipart and JSON bodies of one image are answered alike."""
    raw = await client.post("/predict", content=IMAGE)
    form = await client.post("/predict", files={"any": ("a.png", IMAGE)})
    instances = {"instances": [{"b64": base64.b64encode(IMAGE).decode()}]}
    listed = await client.post("/predict", json=instances)
    first, second, third = (response.json()["predictions"][0] for response in (raw, form, listed))
    assert first["probabilities"] == third["probabilities"] == second["probabilities"]
    assert second["filename"] == "a.png"


async def test_several_images_keep_their_order(client: httpx.AsyncClient, checkpoint: Path) -> None:
    """Predictions stand in the order of the images, each with its own filename."""
    files = [("file", (f"{seed}.png", encoded(random_image(seed)))) for seed in (2, 0, 1)]
    predictions = (await client.post("/predict", files=files)).json()["predictions"]
    assert [prediction["filename"] for prediction in predictions] == ["2.png", "0.png", "1.png"]
    for prediction, seed in zip(predictions, (2, 0, 1), strict=True):
        assert np.allclose(prediction["probabilities"], expected(checkpoint, seed), atol=1e-5)


async def test_failed_images_stand_among_the_answered(client: httpx.AsyncClient) -> None:
    """Of several images some may fail: they have an error in their place and nulls, the others an answer."""
    files = [("f", ("bad.png", BROKEN)), ("f", ("good.png", IMAGE)), ("f", ("text.png", b"hello"))]
    response = await client.post("/predict", files=files)
    bad, good, text = response.json()["predictions"]
    assert response.status_code == 200
    assert good["error"] is None
    assert (bad["error"]["status"], bad["error"]["code"]) == (422, "undecodable_image")
    assert (text["error"]["status"], text["error"]["code"]) == (415, "unsupported_format")
    assert set(bad["error"]) == {"code", "detail", "status"}
    nulls = ("label", "index", "probability", "typicality", "top", "probabilities")
    assert [bad[name] for name in nulls] == [None] * 6
    assert bad["filename"] == "bad.png"
    assert "prediction_set" not in bad


@pytest.fixture(scope="module")
def calibrated_checkpoint(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """The same network with a temperature and a calibration, from 200 images and labels that it finds likely."""
    metadata, model = read_checkpoint(checkpoint).metadata, restore_model(read_checkpoint(checkpoint))
    squares = [preprocess(random_image(seed), metadata.preprocessing) for seed in range(100, 300)]
    with torch.inference_mode():
        logits = model(normalise(torch.from_numpy(np.stack(squares)), metadata.preprocessing))
    probabilities = softmax(logits, 0.5)
    labels = torch.multinomial(probabilities, 1, generator=torch.Generator().manual_seed(0))
    ranked, scores = ranked_scores(probabilities, "aps")
    tables = {
        "scores": quantile_table(scores[ranked == labels].tolist()),
        "energies": quantile_table(energy(logits).tolist()),
    }
    path = tmp_path_factory.mktemp("calibrated") / "small.safetensors"
    write_small_checkpoint(path, temperature=0.5, calibration=Calibration(kind="aps", images=200, **tables))
    return path


@pytest.fixture(scope="module")
async def calibrated(calibrated_checkpoint: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service whose checkpoint has a calibration."""
    async with serving(calibrated_checkpoint) as client:
        yield client


async def test_a_calibrated_checkpoint_answers_with_sets_and_typicality(
    calibrated: httpx.AsyncClient, calibrated_checkpoint: Path
) -> None:
    """Both are what the checkpoint's calibration gives for the network's own logits."""
    loaded = read_checkpoint(calibrated_checkpoint)
    metadata, calibration = loaded.metadata, loaded.metadata.calibration
    assert calibration is not None
    seeds, sizes, typical = range(6), [], []
    files = [("f", (f"{seed}.png", encoded(random_image(seed)))) for seed in seeds]
    squares = [preprocess(random_image(seed), metadata.preprocessing) for seed in seeds]
    with torch.inference_mode():
        logits = restore_model(loaded)(normalise(torch.from_numpy(np.stack(squares)), metadata.preprocessing))
    probabilities = softmax(logits, 0.5)
    for coverage in (0.5, 0.9, 0.999):
        response = await calibrated.post(f"/predict?coverage={coverage}", files=files)
        Predictions.model_validate(response.json(), extra="forbid")
        sets = prediction_sets(probabilities, calibration, coverage)
        for row, prediction in enumerate(response.json()["predictions"]):
            labels = [LABELS[index] for index in sets[row]]
            assert prediction["prediction_set"] == {"coverage": coverage, "labels": labels}
            assert prediction["prediction_set"]["labels"][0] == prediction["label"]
            assert prediction["typicality"] == typicality(logits, calibration)[row]
            assert np.allclose(prediction["probabilities"], probabilities[row], atol=1e-5)
            sizes.append(len(labels))
            typical.append(prediction["typicality"])
    assert sizes[-6:] == [4] * 6  # 200 images cannot promise 99.9 %
    assert min(sizes) < 4
    assert len(set(typical)) > 1


async def test_without_coverage_there_is_typicality_and_no_set(calibrated: httpx.AsyncClient) -> None:
    """Typicality costs nothing to ask for; a prediction set only comes where a coverage is asked for."""
    [prediction] = (await calibrated.post("/predict", content=IMAGE)).json()["predictions"]
    assert 0 < prediction["typicality"] <= 1
    assert "prediction_set" not in prediction


async def test_a_failed_image_has_neither_set_nor_typicality(calibrated: httpx.AsyncClient) -> None:
    """Its typicality is null as everything else, and its prediction set is not there."""
    files = [("f", ("bad.png", BROKEN)), ("f", ("good.png", IMAGE))]
    bad, good = (await calibrated.post("/predict?coverage=0.9", files=files)).json()["predictions"]
    assert (bad["typicality"], "prediction_set" in bad) == (None, False)
    assert good["prediction_set"]["coverage"] == 0.9


async def test_the_model_sums_up_its_calibration(calibrated: httpx.AsyncClient, client: httpx.AsyncClient) -> None:
    """GET /model says what the calibration rests on, without its tables, and null where there is none."""
    response = await calibrated.get("/model")
    ModelInfo.model_validate(response.json(), extra="forbid")
    assert response.json()["calibration"] == {"kind": "aps", "images": 200, "temperature": 0.5}
    assert len(response.content) < 5_000
    assert (await client.get("/model")).json()["calibration"] is None


async def test_bad_base64_among_several_fails_alone(client: httpx.AsyncClient) -> None:
    """One instance that is no base64 has bad_request in its own place."""
    instances = [{"b64": "?"}, {"b64": base64.b64encode(IMAGE).decode()}]
    response = await client.post("/predict", json={"instances": instances})
    bad, good = response.json()["predictions"]
    assert (bad["error"]["status"], bad["error"]["code"], good["error"]) == (400, "bad_request", None)


async def test_where_all_fail_the_first_decides(client: httpx.AsyncClient) -> None:
    """If no image can be answered the request has the first one's status and problem."""
    response = await client.post("/predict", files=[("f", ("a", b"hello")), ("f", ("b", BROKEN))])
    assert code(response) == (415, "unsupported_format")


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (b"", (400, "bad_request")),
        (b"hello", (415, "unsupported_format")),
        (BROKEN, (422, "undecodable_image")),
        (encoded(random_image(size=(101, 100))), (413, "image_too_large")),
        (b"x" * 100_001, (413, "body_too_large")),
    ],
)
async def test_one_bad_image_has_its_own_status(
    client: httpx.AsyncClient, body: bytes, outcome: tuple[int, str]
) -> None:
    """Each fault of a single image is told by status and code."""
    assert code(await client.post("/predict", content=body)) == outcome


async def test_images_are_limited_in_number(client: httpx.AsyncClient) -> None:
    """More images than max_images are refused as a whole."""
    assert code(await client.post("/predict", files=[("f", IMAGE)] * 5)) == (413, "too_many_images")


@pytest.mark.parametrize("top_k", [1, 3, 4])
async def test_top_k_is_what_was_asked_for(client: httpx.AsyncClient, top_k: int) -> None:
    """`top` holds the top_k most probable labels, the most probable first."""
    response = await client.post(f"/predict?top_k={top_k}", content=IMAGE)
    [prediction] = response.json()["predictions"]
    probabilities = [entry["probability"] for entry in prediction["top"]]
    assert len(probabilities) == top_k
    assert probabilities == sorted(prediction["probabilities"], reverse=True)[:top_k]


@pytest.mark.parametrize(
    "query",
    [
        "top_k=0",
        "top_k=5",
        "top_k=x",
        "top_k=1.5",
        "coverage=0",
        "coverage=1",
        "coverage=nan",
        "coverage=x",
        "coverage=0.9",
    ],
)
async def test_parameters_out_of_range_are_invalid(client: httpx.AsyncClient, query: str) -> None:
    """A parameter out of range, or a coverage that this checkpoint cannot promise, names itself in the detail."""
    response = await client.post(f"/predict?{query}", content=IMAGE)
    assert code(response) == (422, "invalid_parameter")
    assert query.partition("=")[0] in response.json()["detail"]


@pytest.mark.parametrize("header", ["0", "-1", "nan", "inf", "x"])
async def test_a_timeout_that_is_none_is_invalid(client: httpx.AsyncClient, header: str) -> None:
    """X-Request-Timeout must be a positive, finite number."""
    response = await client.post("/predict", content=IMAGE, headers={"X-Request-Timeout": header})
    assert code(response) == (422, "invalid_parameter")


async def test_an_encoded_body_is_unsupported(client: httpx.AsyncClient) -> None:
    """A compressed body is refused with a code of its own."""
    response = await client.post("/predict", content=IMAGE, headers={"Content-Encoding": "gzip"})
    assert code(response) == (415, "unsupported_encoding")


async def test_unknown_routes_and_methods_are_problems(client: httpx.AsyncClient) -> None:
    """404 and 405 are problem documents too, and 405 says what is allowed."""
    assert code(await client.get("/nothing")) == (404, "not_found")
    assert code(await client.post("/predict/", content=IMAGE)) == (404, "not_found")
    response = await client.get("/predict")
    assert code(response) == (405, "method_not_allowed")
    assert response.headers["allow"] == "POST"


async def test_the_model_describes_itself(client: httpx.AsyncClient) -> None:
    """GET /model has the checkpoint's facts and the server's limits at its top level."""
    info = (await client.get("/model")).json()
    assert (info["name"], info["labels"], info["device"], info["dtype"]) == ("vgg11_bn", list(LABELS), "cpu", "float32")
    assert info["preprocessing"]["size"] == 32
    assert info["max_batch"] >= 1
    limits: dict[str, Any] = info["limits"]
    assert (limits["max_images"], limits["queue_size"], limits["max_body_bytes"]) == (4, 8, 100_000)
    assert limits["max_image_pixels"] == 10_000
    assert limits["request_timeout"] == 30


async def test_health_is_plain_json(client: httpx.AsyncClient) -> None:
    """A ready service says so to all three probes."""
    for probe in ("live", "ready", "startup"):
        response = await client.get(f"/health/{probe}")
        assert (response.status_code, response.json()) == (200, {"status": "ready"})
        assert response.headers["content-type"] == "application/json"


async def test_metrics_count_what_happened(client: httpx.AsyncClient) -> None:
    """Requests are counted by route and status, images by their steps, and unknown paths under one name."""
    await client.post("/predict", content=IMAGE)
    await client.get("/made-up-by-the-caller")
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = response.text.splitlines()
    assert any(line.startswith('vgg_requests_total{route="/predict",status="200"}') for line in lines)
    assert any(line.startswith('vgg_requests_total{route="unmatched",status="404"}') for line in lines)
    assert "made-up" not in response.text
    assert "vgg_queue_depth 0.0" in lines
    for name in ("batch_size", "decode_seconds", "queue_seconds", "model_seconds"):
        assert any(line.startswith(f"vgg_{name}_count") for line in lines)
    assert 'vgg_dropped_total{reason="disconnected"} 0.0' in lines


async def test_documents_are_served(client: httpx.AsyncClient) -> None:
    """The OpenAPI document lists the routes with their bodies and problems, and there is a page for it."""
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/predict"]["post"]
    assert set(operation["requestBody"]["content"]) >= {"image/*", "multipart/form-data", "application/json"}
    assert PROBLEM in operation["responses"]["429"]["content"]
    page = await client.get("/docs")
    assert page.status_code == 200
    assert page.headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]


async def test_a_full_queue_is_told_at_once(checkpoint: Path) -> None:
    """Beyond the queue's size requests get 429 with Retry-After while those admitted are answered."""
    async with serving(checkpoint, queue_size=2) as client:
        with Gate(client) as gate:
            held = [asyncio.ensure_future(client.post("/predict", content=IMAGE))]
            await gate.entered()
            answers = [asyncio.ensure_future(client.post("/predict", content=IMAGE)) for _ in range(6)]
            done, waiting = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
            while len(done) < 4:
                more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                done |= more
            refused = [answer.result() for answer in done]
        accepted = await asyncio.gather(*held, *waiting)
    assert [code(response) for response in refused] == [(429, "queue_full")] * 4
    assert all(int(response.headers["retry-after"]) >= 1 for response in refused)
    assert [response.status_code for response in accepted] == [200] * 3


async def test_the_deadline_counts_queue_and_compute(checkpoint: Path) -> None:
    """A request whose time is up gets 504 while the model is still busy with it."""
    async with serving(checkpoint) as client:
        with Gate(client):
            late = await client.post("/predict", content=IMAGE, headers={"X-Request-Timeout": "0.05"})
        assert code(late) == (504, "deadline_exceeded")
        assert (await client.post("/predict", content=IMAGE)).status_code == 200


def fail(client: httpx.AsyncClient, *, golden_check: bool) -> None:
    """Lets the model fail for every image but the golden sample, or for that too."""
    [classifier] = pipeline_of(client).model.classifiers
    sound, golden = classifier.compute_logits, classifier._golden

    def predict(images: Sequence[NetworkInput]) -> Logits:
        if golden_check or not np.array_equal(images[0], golden):
            raise RuntimeError("CUDA error: unspecified launch failure")
        return sound(images)

    classifier.compute_logits = predict  # type: ignore[method-assign]


async def test_a_failure_of_the_model_is_never_shown(checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An error inside the network is a fixed sentence to the caller and a traceback in the log."""
    async with serving(checkpoint) as client:
        fail(client, golden_check=False)
        response = await client.post("/predict", content=encoded(random_image(5)))
        assert (await client.get("/health/ready")).status_code == 200
    assert code(response) == (500, "internal")
    assert "CUDA" not in response.text
    assert "CUDA" in caplog.text


async def test_a_model_that_starts_failing_is_neither_ready_nor_live(checkpoint: Path) -> None:
    """When the only replica fails its golden check again and again, probes say so and callers are sent away."""
    async with serving(checkpoint, retry_seconds=0.0) as client:
        fail(client, golden_check=True)
        assert code(await client.post("/predict", content=IMAGE)) == (503, "not_ready")
        for probe, status in (("ready", 503), ("live", 503), ("startup", 200)):
            response = await client.get(f"/health/{probe}")
            assert (response.status_code, response.json()["status"]) == (status, "lost")
        assert code(await client.post("/predict", content=IMAGE)) == (503, "not_ready")
        assert "vgg_replicas 0.0" in (await client.get("/metrics")).text


async def test_keys_guard_what_costs(checkpoint: Path) -> None:
    """With API keys set, predictions and the model need one; probes, metrics and documents do not."""
    async with serving(checkpoint, api_keys="old,new") as client:
        for headers in ({}, {"X-API-Key": "wrong"}, {"Authorization": "Basic new"}, {"Authorization": "Bearer "}):
            response = await client.post("/predict", content=IMAGE, headers=headers)
            assert code(response) == (401, "unauthorized")
            assert response.headers["www-authenticate"] == "Bearer"
        for headers in ({"X-API-Key": "old"}, {"Authorization": "Bearer new"}, {"Authorization": "bearer old"}):
            assert (await client.post("/predict", content=IMAGE, headers=headers)).status_code == 200
        assert (await client.get("/model")).status_code == 401
        for path in ("/health/live", "/health/ready", "/metrics", "/openapi.json", "/docs"):
            assert (await client.get(path)).status_code == 200


async def test_metrics_leave_the_main_port_for_their_own(checkpoint: Path) -> None:
    """With metrics_port set, the main port has no /metrics."""
    async with serving(checkpoint, metrics_port=1) as client:
        assert code(await client.get("/metrics")) == (404, "not_found")


async def test_two_replicas_answer_from_one_queue(checkpoint: Path) -> None:
    """devices=cpu,cpu makes two replicas, and both give the same answers."""
    async with serving(checkpoint, devices="cpu,cpu") as client:
        responses = await asyncio.gather(*(client.post("/predict", content=IMAGE) for _ in range(8)))
        info = (await client.get("/model")).json()
    assert info["device"] == "cpu,cpu"
    for response in responses:
        assert np.allclose(response.json()["predictions"][0]["probabilities"], expected(checkpoint), atol=1e-5)


async def test_before_it_is_loaded_the_service_is_live_and_not_ready(checkpoint: Path) -> None:
    """While loading, probes are answered and everything else is told to come back."""
    app = create_app(Settings.model_validate({"checkpoint": checkpoint}), ZYGOTE)
    async with client_of(app) as client:
        assert (await client.get("/health/live")).status_code == 200
        response = await client.get("/health/ready")
        assert (response.status_code, response.json()["status"]) == (503, "loading")
        assert response.json()["reason"]
        assert (await client.get("/health/startup")).status_code == 503
        refused = await client.post("/predict", content=IMAGE)
        assert code(refused) == (503, "not_ready")
        assert refused.headers["retry-after"] == "1"
        assert code(await client.get("/model")) == (503, "not_ready")


async def test_a_client_that_hangs_up_is_not_computed_for(checkpoint: Path) -> None:
    """When the client goes, its images leave the queue, and its request is logged as 499."""
    async with serving(checkpoint) as client:
        with Gate(client) as gate:
            held = asyncio.ensure_future(client.post("/predict", content=IMAGE))
            await gate.entered()
            messages: list[dict[str, Any]] = [{"type": "http.request", "body": IMAGE}, {"type": "http.disconnect"}]

            async def receive() -> dict[str, Any]:
                return messages.pop(0)

            async def send(message: Any) -> None:
                raise AssertionError(message)

            scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": []}
            await app_of(client)(scope, receive, send)
            assert pipeline_of(client).queue.depth == 0
        assert (await held).status_code == 200
        metrics = (await client.get("/metrics")).text
    assert 'vgg_requests_total{route="/predict",status="499"} 1.0' in metrics


async def test_an_abandoned_image_stays_counted(checkpoint: Path) -> None:
    """The bytes that a decoder still has are counted after the request has ended, and those that wait are not."""
    odd = Zygote("tests.fakes.odd_decoders")
    async with serving(checkpoint, zygote=odd, decode_threads=1) as client:
        memory = app_of(client).state.service.body_memory
        request = asyncio.create_task(client.post("/predict", files=[("file", b"hang" + b" " * 96)] * 2))
        decoders = pipeline_of(client).decoders
        while not decoders.busy:  # noqa: ASYNC110  nothing tells the moment
            await asyncio.sleep(0)
        request.cancel()
        with suppress(asyncio.CancelledError):
            await request
        assert memory.used_bytes == 100
    assert memory.used_bytes == 0
    odd.close()


async def test_one_client_cannot_take_all_memory(checkpoint: Path) -> None:
    """Bodies that one client keeps in memory are bounded by half of `max_body_memory`."""
    async with serving(checkpoint, max_body_bytes=1_000, max_body_memory=2_000) as client:
        held = app_of(client).state.service.body_memory.reserve("127.0.0.1")
        with held:
            held.add(1_000)
            refused = await client.post("/predict", content=b"x")
        assert code(refused) == (429, "queue_full")
        assert refused.headers["retry-after"] == "1"
        assert "this client's requests" in refused.json()["detail"]
        assert code(await client.post("/predict", content=b"x")) == (415, "unsupported_format")
