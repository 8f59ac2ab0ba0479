"""No body, whatever its bytes, makes a protocol fail: its errors are the caller's, in the protocol's own form."""

import base64
import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.images import encoded, random_image
from tests.fakes.service import serving

pytestmark = pytest.mark.anyio
IMAGE = encoded(random_image())
MODEL, TENSOR = "/v2/models/vgg11_bn/infer", "/v2/models/vgg11_bn_tensor/infer"
PROBLEM_KEYS = {"title", "status", "detail", "code", "request_id"}
FORMS = {
    MODEL: {"error"},
    TENSOR: {"error"},
    "/v2/repository/index": {"error"},
    "/": {"error"},
    "/v1/models/vgg11_bn:predict": {"error"},
    "/vertex": PROBLEM_KEYS,
    "/invocations": PROBLEM_KEYS,
}
FEW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
texts = st.sampled_from([base64.b64encode(IMAGE).decode(), "aGVsbG8=", "", "é"]) | st.text(max_size=8)
parameters = anything | st.fixed_dictionaries(
    {},
    optional={
        "binary_data_size": st.integers(-1, 20_000) | scalars,
        "binary_data": st.booleans() | scalars,
        "binary_data_output": st.booleans() | scalars,
        "classification": st.integers(-1, 9) | scalars,
        "timeout": st.integers(-1, 2**70) | scalars,
        "top_k": st.integers(-1, 9) | scalars,
        "coverage": st.floats() | scalars,
        "function_to_apply": st.sampled_from(["softmax", "sigmoid", "none"]) | scalars,
    },
)
tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["image", "input", "label", "logits"]) | anything,
        "shape": st.sampled_from([[1], [2], [0], [-1], [2**63], [1, 3, 32, 32], [0, 3, 32, 32]]) | anything,
        "datatype": st.sampled_from(["BYTES", "FP32", "FP16"]) | anything,
        "parameters": parameters,
        "data": st.lists(texts, max_size=3) | st.just([0.5] * 3072) | anything,
    },
)
instances = texts | anything | st.fixed_dictionaries({}, optional={"b64": texts, "image_bytes": texts | anything})
documents = anything | st.fixed_dictionaries(
    {},
    optional={
        "id": st.text(max_size=8) | scalars,
        "parameters": parameters,
        "inputs": st.lists(tensors, max_size=2) | texts | anything,
        "outputs": st.lists(tensors, max_size=2) | anything,
        "instances": st.lists(instances, max_size=3) | anything,
        "ready": scalars,
    },
)
binaries = st.binary(max_size=64) | st.sampled_from([IMAGE, struct.pack("<I", len(IMAGE)) + IMAGE, bytes(12_288)])


@pytest.fixture(scope="module")
async def client(checkpoint: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of one service for the whole module."""
    async with serving(checkpoint, max_images=4, queue_size=8, vertex_predict_route="/vertex") as client:
        yield client


def check(path: str, response: httpx.Response) -> None:
    """An answer, or an error of the caller's in the form of the path."""
    assert response.status_code == 200 or 400 <= response.status_code < 500, response.text
    if response.status_code != 200:
        assert set(response.json()) == FORMS[path]


@pytest.mark.parametrize("path", FORMS)
async def test_any_json_is_answered_or_refused(client: httpx.AsyncClient, path: str) -> None:
    """Documents that are nearly right, with binary data behind them."""

    @FEW
    @given(document=documents, binary=binaries)
    async def ask(document: Any, binary: bytes) -> None:
        head = json.dumps(document).encode()
        headers = {"Content-Type": "application/json", "Inference-Header-Content-Length": str(len(head))}
        check(path, await client.post(path, content=head, headers=headers))
        check(path, await client.post(path, content=head + binary, headers=headers))

    await _run(ask)


@pytest.mark.parametrize("path", FORMS)
async def test_any_bytes_are_answered_or_refused(client: httpx.AsyncClient, path: str) -> None:
    """Bytes of any kind, under any header length and coding."""
    lengths = st.sampled_from(["0", "5", "99999"])
    codings = st.sampled_from(["identity", "gzip", "deflate"])

    @FEW
    @given(body=binaries | st.text(alphabet='[]{},:"01', max_size=40).map(str.encode), length=lengths, coding=codings)
    async def ask(body: bytes, length: str, coding: str) -> None:
        headers = {"Inference-Header-Content-Length": length, "Content-Encoding": coding}
        check(path, await client.post(path, content=body, headers=headers))

    await _run(ask)


async def _run(ask: Any) -> None:
    """Hypothesis calls functions that are not asynchronous: each example runs on this loop, from a thread."""
    import asyncio

    loop = asyncio.get_running_loop()
    inner = ask.hypothesis.inner_test

    def call(*args: Any, **kwargs: Any) -> None:
        asyncio.run_coroutine_threadsafe(inner(*args, **kwargs), loop).result()

    ask.hypothesis.inner_test = call
    await asyncio.to_thread(ask)
