"""Hugging Face's image-classification task, asked by its own client and by hand."""

import base64
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from models.checkpoint import read_checkpoint, restore_model
from models.normalise import normalise
from models.preprocess import preprocess
from models.probabilities import softmax
from tests.fakes.checkpoints import LABELS
from tests.fakes.images import encoded, random_image
from tests.fakes.servers import listening
from tests.fakes.service import serving

pytestmark = pytest.mark.anyio
IMAGE = encoded(random_image())
INPUTS = base64.b64encode(IMAGE).decode()


@pytest.fixture(scope="module")
async def client(checkpoint: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of one service for the whole module."""
    async with serving(checkpoint) as client:
        yield client


@pytest.fixture(scope="module")
def url(checkpoint: Path) -> Iterator[str]:
    """A server that asks for a key, on a port of its own."""
    with listening(checkpoint, api_keys="secret") as url:
        yield url


@pytest.fixture(scope="module")
def logits(checkpoint: Path) -> torch.Tensor:
    """(4,): what the trained network gives for IMAGE."""
    loaded = read_checkpoint(checkpoint)
    preprocessing = loaded.metadata.preprocessing
    batch = torch.from_numpy(preprocess(random_image(), preprocessing)[None].copy())
    with torch.inference_mode():
        result: torch.Tensor = restore_model(loaded)(normalise(batch, preprocessing))[0]
        return result


def test_the_hubs_own_client_is_answered(url: str, logits: torch.Tensor) -> None:
    """With and without parameters: the first sends the bytes themselves, the second JSON."""
    client = InferenceClient(model=url, token="secret")  # noqa: S106
    plain = client.image_classification(IMAGE)
    assert [element.label for element in plain] == [LABELS[index] for index in logits.argsort(descending=True)]
    assert plain[0].score == pytest.approx(float(softmax(logits[None])[0].max()), abs=1e-5)
    [best] = client.image_classification(IMAGE, top_k=1, function_to_apply="none")
    assert best.score == pytest.approx(float(logits.max()), abs=1e-4)


def test_the_hubs_own_client_sees_errors(url: str) -> None:
    """A wrong key and bytes that are no image."""
    for token, image, status in (("wrong", IMAGE, 401), ("secret", b"hello", 415)):
        with pytest.raises(HfHubHTTPError) as error:
            InferenceClient(model=url, token=token).image_classification(image)
        assert error.value.response.status_code == status


async def test_functions_turn_logits_into_scores(client: httpx.AsyncClient, logits: torch.Tensor) -> None:
    """softmax is the default; the order is the same for all."""
    functions = {"softmax": softmax(logits[None])[0], "sigmoid": logits.sigmoid(), "none": logits}
    order = logits.argsort(descending=True)
    for name, scores in functions.items():
        body = {"inputs": INPUTS, "parameters": {"function_to_apply": name, "top_k": 3}}
        answer = (await client.post("/", json=body)).json()
        assert [element["label"] for element in answer] == [LABELS[index] for index in order[:3]]
        assert np.allclose([element["score"] for element in answer], scores[order[:3]], atol=1e-4)


@pytest.mark.parametrize(
    "headers", [{"Content-Type": "image/png"}, {"Content-Type": "application/x-www-form-urlencoded"}, {}]
)
async def test_the_body_may_be_the_image(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    """Whatever its declared type; the answer is a bare list of at most five labels."""
    response = await client.post("/", content=IMAGE, headers=headers)
    assert [set(element) for element in response.json()] == [{"label", "score"}] * 4
    assert {"x-request-id", "x-model-version", "server-timing"} <= set(response.headers)


async def test_json_is_recognised_without_its_type(client: httpx.AsyncClient) -> None:
    """curl declares a form. `top_k` may exceed the number of labels, as in transformers."""
    content = f' {{"inputs": "data:image/png;base64,{INPUTS}", "parameters": {{"top_k": 99}}}}'
    response = await client.post("/", content=content)
    assert len(response.json()) == 4


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "no image"),
        (b"{", 400, "JSON"),
        (b"{}", 400, "inputs"),
        ({"inputs": [INPUTS]}, 400, "inputs"),
        ({"inputs": "?"}, 400, "'?'"),
        ({"inputs": ""}, 400, "no bytes"),
        ({"inputs": INPUTS, "parameters": {"top_k": 0}}, 422, "parameters.top_k is 0"),
        ({"inputs": INPUTS, "parameters": {"top_k": "5"}}, 422, "parameters.top_k is '5'"),
        ({"inputs": INPUTS, "parameters": {"function_to_apply": "tanh"}}, 422, "'tanh'"),
        ({"inputs": INPUTS, "parameters": [1]}, 422, "parameters is [1]"),
        ({"inputs": base64.b64encode(b"hello").decode()}, 415, "format"),
        (IMAGE[:60], 422, "corrupt"),
    ],
)
async def test_errors_are_objects_with_one_string(
    client: httpx.AsyncClient, body: Any, status: int, words: str
) -> None:
    """Statuses are those of the native route."""
    response = await client.post("/", **({"content": body} if isinstance(body, bytes) else {"json": body}))
    assert response.status_code == status
    assert list(response.json()) == ["error"]
    assert words in response.json()["error"]


async def test_other_methods_belong_to_the_page(client: httpx.AsyncClient) -> None:
    """The protocol has POST alone."""
    response = await client.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
