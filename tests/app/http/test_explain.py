"""The route of explanations, over HTTP messages, in one process."""

import asyncio
import base64
import io
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from app.decoding.zygote import Zygote
from app.errors import Draining
from app.http.schemas import Explanation
from models.checkpoint import read_checkpoint, restore_model
from models.grad_cam import explain, split_into_blocks
from models.networks.registry import Architecture
from models.normalise import normalise
from models.preprocess import Pixels, Preprocessing, preprocess
from tests.fakes.checkpoints import write_small_checkpoint
from tests.fakes.gates import Gate
from tests.fakes.images import encoded, random_image
from tests.fakes.service import app_of, pipeline_of, serving

pytestmark = pytest.mark.anyio
IMAGE = encoded(random_image())
JSON = {"Accept": "application/json"}


@pytest.fixture(scope="module")
async def client(checkpoint: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of one service for the whole module."""
    async with serving(checkpoint, max_images=2, max_body_bytes=100_000, max_image_pixels=10_000) as client:
        yield client


class HeldThread:
    """Holds every heat map of a service until it is opened."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._open, self._entered = threading.Event(), threading.Semaphore(0)
        self._thread = pipeline_of(client)._heat_maps

    def __enter__(self) -> "HeldThread":
        def wait() -> None:
            self._entered.release()
            self._open.wait()

        self._thread._executor.submit(wait)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.set()


def problem(response: httpx.Response) -> tuple[int, str]:
    """The status and code of a problem document."""
    document = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert document["request_id"] == response.headers["x-request-id"]
    return response.status_code, document["code"]


def expected(checkpoint: Path, image: Image.Image, index: int | None = None) -> Any:
    """The explanation of the trained network, neither fused nor prepacked."""
    loaded = read_checkpoint(checkpoint)
    preprocessing = loaded.metadata.preprocessing
    batch = normalise(torch.from_numpy(preprocess(image, preprocessing)[None].copy()), preprocessing)
    return explain(split_into_blocks(restore_model(loaded)), batch, index)


def opened(response: httpx.Response) -> Image.Image:
    assert (response.status_code, response.headers["content-type"]) == (200, "image/png")
    return Image.open(io.BytesIO(response.content))


async def test_the_answer_is_a_picture(client: httpx.AsyncClient, checkpoint: Path) -> None:
    """By default it is a PNG of the image's own size, with the headers of a prediction."""
    response = await client.post("/explain", content=IMAGE, headers={"X-Request-ID": "abc-1"})
    picture = opened(response)
    assert (picture.size, picture.mode) == ((40, 50), "RGB")
    assert response.headers["x-request-id"] == "abc-1"
    assert response.headers["x-model-version"] == read_checkpoint(checkpoint).version
    assert response.headers["vary"] == "Accept"
    steps = [step.split(";dur=") for step in response.headers["server-timing"].split(", ")]
    assert [name for name, _ in steps] == ["decode", "queue", "model", "total"]
    assert all(float(ms) >= 0 for _, ms in steps)


async def test_the_map_as_numbers(client: httpx.AsyncClient, checkpoint: Path) -> None:
    """With JSON the map is that of the trained network, and the label is the one that /predict gives."""
    response = await client.post("/explain", content=IMAGE, headers=JSON)
    answer = Explanation.model_validate(response.json(), extra="forbid")
    right = expected(checkpoint, random_image())
    assert np.allclose(answer.heatmap, right.heat_map, atol=1e-4)
    assert (np.min(answer.heatmap) >= 0, np.max(answer.heatmap)) == (True, 1)
    assert (answer.width, answer.height) == (40, 50)
    [prediction] = (await client.post("/predict", content=IMAGE)).json()["predictions"]
    assert (answer.label, answer.index) == (prediction["label"], prediction["index"])
    assert answer.model.model_dump() == {"name": "vgg11_bn", "version": read_checkpoint(checkpoint).version}


async def test_a_label_is_a_name_or_an_index(tmp_path: Path) -> None:
    """A name that is a number counts as a name. What is neither is refused, and the answer says what is allowed."""
    path = tmp_path / "numbers.safetensors"
    write_small_checkpoint(path, labels=("2", "0", "cat"))
    async with serving(path) as client:
        for text, index in (("2", 0), ("0", 1), ("cat", 2), ("1", 1)):
            answer = (await client.post("/explain", params={"label": text}, content=IMAGE, headers=JSON)).json()
            assert answer["index"] == index
            right = expected(path, random_image(), index)
            assert np.allclose(answer["heatmap"], right.heat_map, atol=1e-4)
        for text in ("3", "dog", "", "-1", "1.0", " 1", "\u0661", "9" * 5_000):
            refused = await client.post("/explain", params={"label": text}, content=IMAGE)
            assert problem(refused) == (422, "invalid_parameter")
            assert "0..2" in refused.json()["detail"]


async def test_all_three_forms_are_read(client: httpx.AsyncClient) -> None:
    """A raw body, a form and JSON give the same map."""
    instances = {"instances": [{"b64": base64.b64encode(IMAGE).decode()}]}
    forms: list[dict[str, Any]] = [{"content": IMAGE}, {"files": {"any": ("a.png", IMAGE)}}, {"json": instances}]
    maps = [(await client.post("/explain", headers=JSON, **form)).json()["heatmap"] for form in forms]
    assert maps[0] == maps[1] == maps[2]


async def test_exactly_one_image(client: httpx.AsyncClient, checkpoint: Path) -> None:
    """Two are a parameter out of its range, also where a request may have but one. None is a bad request."""
    two = {"files": [("file", IMAGE), ("file", IMAGE)]}
    assert problem(await client.post("/explain", **two)) == (422, "invalid_parameter")  # type: ignore[arg-type]
    assert problem(await client.post("/explain", content=b"")) == (400, "bad_request")
    assert problem(await client.post("/explain", json={"instances": []})) == (400, "bad_request")
    async with serving(checkpoint, max_images=1) as strict:
        assert problem(await strict.post("/explain", **two)) == (422, "invalid_parameter")  # type: ignore[arg-type]


async def test_bad_images_have_the_errors_of_predict(client: httpx.AsyncClient) -> None:
    """Each has its own status, for both forms of the answer."""
    large = encoded(Image.new("RGB", (200, 100)))
    for headers in ({}, JSON):
        for content, right in (
            (b"no image", (415, "unsupported_format")),
            (IMAGE[:60], (422, "undecodable_image")),
            (large, (413, "image_too_large")),
            (b"x" * 100_001, (413, "body_too_large")),
        ):
            assert problem(await client.post("/explain", content=content, headers=headers)) == right
        bad = {"instances": [{"b64": "%"}]}
        assert problem(await client.post("/explain", json=bad, headers=headers)) == (400, "bad_request")
    encoding = {"Content-Encoding": "gzip"}
    assert problem(await client.post("/explain", content=IMAGE, headers=encoding)) == (415, "unsupported_encoding")
    late = {"X-Request-Timeout": "0"}
    assert problem(await client.post("/explain", content=IMAGE, headers=late)) == (422, "invalid_parameter")


async def test_an_image_is_upright_in_its_picture(client: httpx.AsyncClient) -> None:
    """EXIF's orientation turns the picture, the map and the size alike."""
    image = random_image(size=(60, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # the stored picture must be turned by 90 degrees, clockwise
    turned = encoded(image.transpose(Image.Transpose.ROTATE_90), exif=exif)
    answers = [(await client.post("/explain", content=data, headers=JSON)).json() for data in (turned, encoded(image))]
    assert answers[0] == answers[1]
    assert (answers[0]["width"], answers[0]["height"]) == (60, 40)
    pictures = [opened(await client.post("/explain", content=data)) for data in (turned, encoded(image))]
    assert np.array_equal(np.asarray(pictures[0]), np.asarray(pictures[1]))


async def test_no_colour_lies_where_the_model_did_not_look(client: httpx.AsyncClient) -> None:
    """The checkpoint's network sees the central square, and the rest of the picture is the image itself."""
    image = random_image(size=(90, 30))
    picture, before = np.asarray(opened(await client.post("/explain", content=encoded(image)))), np.asarray(image)
    assert np.array_equal(picture[:, :30], before[:, :30])
    assert np.array_equal(picture[:, 60:], before[:, 60:])
    assert not np.array_equal(picture[:, 30:60], before[:, 30:60])


@pytest.mark.parametrize(
    ("name", "head", "channels", "crop"),
    [
        ("vgg11_bn", "linear", 3, "squash"),
        ("vgg13", "paper", 1, "pad"),
        ("vgg11_lrn", "pooled", 1, "center"),
        ("alexnet", "paper", 3, "center"),
    ],
)
async def test_every_network_is_explained(tmp_path: Path, name: str, head: str, channels: int, crop: str) -> None:
    """Every head, response normalisation, AlexNet and grey checkpoints, by the trained network's own gradient."""
    path = tmp_path / "network.safetensors"
    architecture = Architecture(name, 4, channels, 32, head, 1 / 8)
    preprocessing = Preprocessing(32, 32, (0.5,) * channels, (0.25,) * channels, channels, crop=crop)
    write_small_checkpoint(path, architecture=architecture, preprocessing=preprocessing)
    async with serving(path) as client:
        for label in range(4):
            answer = (await client.post("/explain", params={"label": label}, content=IMAGE, headers=JSON)).json()
            assert np.allclose(answer["heatmap"], expected(path, random_image(), label).heat_map, atol=1e-3)
        assert opened(await client.post("/explain", content=IMAGE)).size == (40, 50)


async def test_explanations_are_bounded(client: httpx.AsyncClient) -> None:
    """Beyond four the answer is 429 at once, while the four are answered and predictions are not held up."""
    explainer = pipeline_of(client).explainer
    with HeldThread(client):
        requests = [asyncio.ensure_future(client.post("/explain", content=IMAGE)) for _ in range(4)]
        while explainer.depth < 4:  # noqa: ASYNC110  nothing tells the moment
            await asyncio.sleep(0)
        refused = await client.post("/explain", content=IMAGE)
        assert problem(refused) == (429, "queue_full")
        assert int(refused.headers["retry-after"]) >= 1
        assert (await client.post("/predict", content=IMAGE)).status_code == 200
    assert [response.status_code for response in await asyncio.gather(*requests)] == [200] * 4
    assert explainer.depth == 0


async def test_a_busy_model_does_not_hold_up_explanations(client: httpx.AsyncClient) -> None:
    """They have a thread of their own."""
    with Gate(client) as gate:
        held = asyncio.ensure_future(client.post("/predict", content=IMAGE))
        await gate.entered()
        assert (await client.post("/explain", content=IMAGE)).status_code == 200
    assert (await held).status_code == 200


async def test_the_deadline_counts(client: httpx.AsyncClient) -> None:
    """An explanation that is late is 504 and gives its place back."""
    with HeldThread(client):
        late = await client.post("/explain", content=IMAGE, headers={"X-Request-Timeout": "0.05"})
    assert problem(late) == (504, "deadline_exceeded")
    assert pipeline_of(client).explainer.depth == 0
    assert (await client.post("/explain", content=IMAGE)).status_code == 200


async def test_the_end_answers_explanations(client: httpx.AsyncClient) -> None:
    """Where the time for the requests in flight is over, they get 503 `draining` as predictions do."""
    pipeline = pipeline_of(client)
    with HeldThread(client):
        request = asyncio.ensure_future(client.post("/explain", content=IMAGE))
        while not pipeline.explainer._pending:  # noqa: ASYNC110  nothing tells the moment
            await asyncio.sleep(0)
        pipeline.fail_requests(Draining())
        assert problem(await request) == (503, "draining")
    assert (await client.post("/explain", content=IMAGE)).status_code == 200


async def test_a_client_that_hangs_up_frees_its_place(client: httpx.AsyncClient) -> None:
    """Its explanation is not computed, and the memory of its body is given back."""
    explainer, memory = pipeline_of(client).explainer, app_of(client).state.service.body_memory
    with HeldThread(client):
        request = asyncio.ensure_future(client.post("/explain", content=IMAGE))
        while not explainer._pending:  # noqa: ASYNC110  nothing tells the moment
            await asyncio.sleep(0)
        request.cancel()
        await asyncio.wait([request])
        assert explainer.depth == 0
    assert (await client.post("/explain", content=IMAGE)).status_code == 200
    assert memory.used_bytes == 0


async def test_a_failure_is_never_shown(checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An error of the network is a fixed sentence to the caller and a traceback in the log."""
    async with serving(checkpoint) as client:
        thread = pipeline_of(client)._heat_maps

        def explain_badly(pixels: Pixels, index: int | None) -> Any:
            raise RuntimeError("out of luck")

        thread._explain = explain_badly  # type: ignore[method-assign]
        response = await client.post("/explain", content=IMAGE)
    assert problem(response) == (500, "internal")
    assert "luck" not in response.text
    assert "out of luck" in caplog.text


async def test_a_drawing_that_crashes_costs_its_request_alone(checkpoint: Path) -> None:
    """The decoder that draws is one that can be killed."""
    odd = Zygote("tests.fakes.odd_decoders")
    async with serving(checkpoint, zygote=odd) as client:
        assert problem(await client.post("/explain", content=b"crash")) == (422, "undecodable_image")
        assert problem(await client.post("/explain", content=b"draw crash")) == (422, "undecodable_image")
        assert (await client.post("/explain", content=b"draw crash", headers=JSON)).status_code == 200
        assert (await client.post("/explain", content=b"sound")).status_code == 200
    odd.close()


async def test_keys_guard_it(checkpoint: Path) -> None:
    """Without a key nothing is explained. GET is another method."""
    async with serving(checkpoint, api_keys="secret") as client:
        assert problem(await client.post("/explain", content=IMAGE)) == (401, "unauthorized")
        key = {"X-API-Key": "secret"}
        assert (await client.post("/explain", content=IMAGE, headers=key)).status_code == 200
        assert problem(await client.get("/explain", headers=key)) == (405, "method_not_allowed")


async def test_it_is_documented(client: httpx.AsyncClient) -> None:
    """The OpenAPI document has both forms of the answer and the parameter."""
    operation = (await client.get("/openapi.json")).json()["paths"]["/explain"]["post"]
    assert set(operation["responses"]["200"]["content"]) == {"image/png", "application/json"}
    assert [parameter["name"] for parameter in operation["parameters"]] == ["label"]
