"""No body, whatever its bytes, makes a protocol fail: its errors are the caller's, in the protocol's own form."""

import asyncio
import base64
import copy
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
FEW = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))

BASE64 = base64.b64encode(IMAGE).decode()
ELEMENT = struct.pack("<I", len(IMAGE)) + IMAGE
INPUTS = (
    {"name": "image", "shape": [1], "datatype": "BYTES", "data": [BASE64]},
    {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(ELEMENT)}},
    {"name": "input", "shape": [1, 3, 32, 32], "datatype": "FP32", "data": [0.5] * 3072},
    {"name": "input", "shape": [1, 3, 32, 32], "datatype": "FP32", "parameters": {"binary_data_size": 12_288}},
)
OUTPUTS = [
    {"name": "probabilities", "parameters": {"binary_data": True}},
    {"name": "logits", "parameters": {"classification": 2}},
    {"name": "label"},
]
REQUEST = {"id": "1", "parameters": {"binary_data_output": True, "timeout": 0}, "outputs": OUTPUTS}
DOCUMENTS: list[Any] = [
    *({**REQUEST, "inputs": [tensor]} for tensor in INPUTS),
    {"inputs": BASE64, "parameters": {"top_k": 1, "function_to_apply": "none"}},
    {"instances": [{"b64": BASE64}, {"image_bytes": {"b64": BASE64}}], "parameters": {"top_k": 1, "coverage": 0.5}},
    {"ready": True},
]
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.sampled_from(["image", "input", BASE64, [BASE64] * 3, {}, [], [2], 0, -1, 2**63, 1e300]) | st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
binaries = st.binary(max_size=64) | st.sampled_from([b"", IMAGE, ELEMENT, bytes(12_288), b"\xff" * 12_288])


@st.composite
def documents(draw: st.DrawFn) -> Any:
    """A request of some protocol, in which at most two parts are replaced by something else, or left out."""
    document = copy.deepcopy(draw(st.sampled_from(DOCUMENTS)))
    for _ in range(draw(st.integers(0, 2))):
        parent, keys = None, document
        while isinstance(keys, dict | list) and keys and (parent is None or draw(st.booleans())):
            parent, key = keys, draw(st.sampled_from(list(keys) if isinstance(keys, dict) else range(len(keys))))
            keys = parent[key]
        if parent is None:
            return draw(values)
        if draw(st.booleans()):
            parent[key] = copy.deepcopy(draw(values))  # the next round may change it
        else:
            del parent[key]
    return document


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
    @given(document=documents(), binary=binaries)
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
    loop = asyncio.get_running_loop()
    inner = ask.hypothesis.inner_test

    def call(*args: Any, **kwargs: Any) -> None:
        asyncio.run_coroutine_threadsafe(inner(*args, **kwargs), loop).result()

    ask.hypothesis.inner_test = call
    await asyncio.to_thread(ask)
