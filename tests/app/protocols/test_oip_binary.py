"""Triton's binary tensor data in requests and answers, byte for byte, and compressed bodies."""

import gzip
import json
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from models.checkpoint import read_checkpoint, restore_model
from models.normalise import normalise
from models.preprocess import preprocess
from models.probabilities import softmax
from tests.fakes.checkpoints import LABELS
from tests.fakes.images import encoded, random_image
from tests.fakes.service import serving

pytestmark = pytest.mark.anyio
IMAGES = [encoded(random_image(seed)) for seed in range(2)]
MODEL, TENSOR = "/v2/models/vgg11_bn", "/v2/models/vgg11_bn_tensor"
LENGTH = "Inference-Header-Content-Length"
LIMIT = 100_000


@pytest.fixture(scope="module")
async def client(checkpoint: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of one service for the whole module, which asks for no coding."""
    async with serving(checkpoint, max_images=4, queue_size=8, max_body_bytes=LIMIT) as client:
        client.headers["Accept-Encoding"] = "identity"
        yield client


@pytest.fixture(scope="module")
def pixels(checkpoint: Path) -> Any:
    """(2, 3, 32, 32): the normalised pixels of IMAGES."""
    preprocessing = read_checkpoint(checkpoint).metadata.preprocessing
    batch = np.stack([preprocess(random_image(seed), preprocessing) for seed in range(2)])
    return np.ascontiguousarray(normalise(torch.from_numpy(batch), preprocessing).numpy())


@pytest.fixture(scope="module")
def logits(checkpoint: Path, pixels: Any) -> Any:
    """(2, 4): what the trained network gives for IMAGES."""
    with torch.inference_mode():
        return restore_model(read_checkpoint(checkpoint))(torch.from_numpy(pixels)).numpy()


def joined(*strings: bytes) -> bytes:
    """A BYTES tensor as the extension's document describes it."""
    return b"".join(struct.pack("<I", len(string)) + string for string in strings)


def body_of(tensor: dict[str, Any], data: bytes, **fields: object) -> tuple[bytes, dict[str, str]]:
    """A request's body and headers."""
    size = {"parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [{**size, **tensor}], **fields}).encode()
    return head + data, {LENGTH: str(len(head))}


def split(response: httpx.Response) -> tuple[dict[str, Any], bytes]:
    """An answer's JSON object and the bytes behind it."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/octet-stream"
    length = int(response.headers[LENGTH])
    return json.loads(response.content[:length]), response.content[length:]


IMAGE_TENSOR = {"name": "image", "shape": [2], "datatype": "BYTES"}
FLOAT_TENSOR = {"name": "input", "shape": [2, 3, 32, 32], "datatype": "FP32"}


async def test_images_in_and_floats_out(client: httpx.AsyncClient, logits: Any) -> None:
    """BYTES elements follow their lengths; FP32 comes back little-endian, row by row."""
    content, headers = body_of(IMAGE_TENSOR, joined(*IMAGES), parameters={"binary_data_output": True})
    answer, data = split(await client.post(f"{MODEL}/infer", content=content, headers=headers))
    parameters = {"binary_data_size": 32}
    assert answer["outputs"] == [
        {"name": "probabilities", "datatype": "FP32", "shape": [2, 4], "parameters": parameters}
    ]
    expected = softmax(torch.from_numpy(logits)).numpy()
    assert np.allclose(np.reshape(struct.unpack("<8f", data), (2, 4)), expected, atol=1e-5)


async def test_floats_in_and_strings_out(client: httpx.AsyncClient, pixels: Any, logits: Any) -> None:
    """Outputs' bytes stand one behind the other; an output's own setting wins over the request's."""
    wanted = [
        {"name": "label"},
        {"name": "probabilities", "parameters": {"binary_data": False}},
        {"name": "logits", "parameters": {"classification": 1}},
    ]
    content, headers = body_of(
        FLOAT_TENSOR, pixels.astype("<f4").tobytes(), outputs=wanted, parameters={"binary_data_output": True}
    )
    answer, data = split(await client.post(f"{TENSOR}/infer", content=content, headers=headers))
    label, probabilities, classes = answer["outputs"]
    best = [LABELS[index].encode() for index in logits.argmax(1)]
    size = label["parameters"]["binary_data_size"]
    assert data[:size] == joined(*best)
    assert len(probabilities["data"]) == 8
    assert classes["shape"] == [2, 1]
    assert len(data) == size + classes["parameters"]["binary_data_size"]
    first = data[size + 4 :][: struct.unpack_from("<I", data, size)[0]].decode()
    assert first.endswith(f":{logits[0].argmax()}:{best[0].decode()}")
    assert float(first.split(":")[0]) == pytest.approx(logits[0].max(), abs=1e-4)


async def test_a_header_length_without_binary_data_is_json(client: httpx.AsyncClient) -> None:
    """The length may also be that of the whole body, and the outputs come as JSON."""
    response = await client.post(f"{MODEL}/infer", content=b"{}", headers={LENGTH: "2"})
    assert response.status_code == 400
    assert "inputs" in response.json()["error"]


async def test_a_raw_body_is_one_image(client: httpx.AsyncClient, pixels: Any, logits: Any) -> None:
    """A header length of 0: the body is the image's file, or the pixels of one image. The answer is binary."""
    expected = softmax(torch.from_numpy(logits))[0].numpy()
    for path, content in ((MODEL, IMAGES[0]), (TENSOR, pixels[:1].tobytes())):
        answer, data = split(await client.post(f"{path}/infer", content=content, headers={LENGTH: "0"}))
        assert answer["outputs"][0]["shape"] == [1, 4]
        assert np.allclose(np.frombuffer(data, "<f4"), expected, atol=1e-5)


BINARY = joined(*IMAGES)


@pytest.mark.parametrize(
    ("path", "tensor", "data", "words"),
    [
        (MODEL, IMAGE_TENSOR, BINARY[:-1], ["Element 1", "longer"]),
        (MODEL, IMAGE_TENSOR, BINARY + b"x", ["1 bytes behind"]),
        (MODEL, IMAGE_TENSOR, joined(IMAGES[0]), ["element 1 of 2"]),
        (MODEL, IMAGE_TENSOR, joined(IMAGES[0]) + b"\xff\xff\xff\xff", ["Element 1", "longer"]),
        (MODEL, IMAGE_TENSOR, joined(IMAGES[0], b""), ["Element 1", "no bytes"]),
        (MODEL, IMAGE_TENSOR | {"shape": [2**31]}, BINARY, ["2147483648 images"]),
        (MODEL, IMAGE_TENSOR | {"parameters": {"binary_data_size": 1}}, BINARY, ["binary_data_size", "is 1"]),
        (MODEL, IMAGE_TENSOR | {"parameters": {"binary_data_size": -1}}, BINARY, ["binary_data_size"]),
        (MODEL, IMAGE_TENSOR | {"parameters": {}}, BINARY, ["data"]),
        (MODEL, IMAGE_TENSOR | {"data": ["", ""]}, BINARY, ["either data or"]),
        (TENSOR, FLOAT_TENSOR, b"", ["0 bytes", "24576"]),
        (TENSOR, FLOAT_TENSOR, bytes(24575), ["24575", "24576"]),
        (TENSOR, FLOAT_TENSOR, b"\x00\x00\xc0\x7f" * 6144, ["finite"]),
        (TENSOR, FLOAT_TENSOR, b"\x00\x00\x80\xff" * 6144, ["finite"]),
    ],
)
async def test_binary_data_that_do_not_fit_are_refused(
    client: httpx.AsyncClient, path: str, tensor: dict[str, Any], data: bytes, words: list[str]
) -> None:
    """400, or 413 for too many images, with what is there and what should be."""
    content, headers = body_of(tensor, data)
    response = await client.post(f"{path}/infer", content=content, headers=headers)
    assert response.status_code == (413 if "2147483648 images" in words else 400)
    assert all(word in response.json()["error"] for word in words), response.text


@pytest.mark.parametrize("length", ["-1", "1e2", "9" * 30, "3", "²", ""])
async def test_a_bad_header_length_is_refused(client: httpx.AsyncClient, length: str) -> None:
    """It is a number of bytes, and not more than the body has."""
    response = await client.post(f"{MODEL}/infer", content=b"{}", headers={LENGTH.encode(): length.encode()})
    assert response.status_code == 400
    assert LENGTH in response.json()["error"]


@pytest.mark.parametrize("path", [MODEL, TENSOR])
async def test_a_raw_body_without_bytes_is_refused(client: httpx.AsyncClient, path: str) -> None:
    """There is nothing to classify."""
    response = await client.post(f"{path}/infer", content=b"", headers={LENGTH: "0"})
    assert response.status_code == 400


CODINGS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}


@pytest.mark.parametrize("coding", CODINGS)
async def test_requests_and_answers_may_be_compressed(client: httpx.AsyncClient, coding: str) -> None:
    """The header's length is that of the JSON object before compression, in both directions."""
    content, headers = body_of(IMAGE_TENSOR, joined(*IMAGES), parameters={"binary_data_output": True})
    plain = await client.post(f"{MODEL}/infer", content=content, headers=headers)
    headers |= {"Content-Encoding": coding, "Accept-Encoding": f"br, {coding};q=0.5"}
    response = await client.post(f"{MODEL}/infer", content=CODINGS[coding](content), headers=headers)
    assert response.headers["content-encoding"] == coding
    assert response.headers["vary"] == "Accept-Encoding"
    assert int(response.headers["content-length"]) != len(plain.content)
    assert split(response)[0]["outputs"] == split(plain)[0]["outputs"]
    assert np.allclose(np.frombuffer(split(response)[1], "<f4"), np.frombuffer(split(plain)[1], "<f4"), atol=1e-5)


@pytest.mark.parametrize("accepted", ["identity", "br", "gzip;q=0, deflate; q=0.0", ""])
async def test_an_answer_is_not_compressed_unasked(client: httpx.AsyncClient, accepted: str) -> None:
    """Neither for other codings nor for those with quality 0."""
    headers = {LENGTH: "0", "Accept-Encoding": accepted}
    response = await client.post(f"{MODEL}/infer", content=IMAGES[0], headers=headers)
    assert "content-encoding" not in response.headers


@pytest.mark.parametrize("coding", CODINGS)
async def test_the_inflated_size_is_limited(client: httpx.AsyncClient, coding: str) -> None:
    """A hundred bytes that inflate to more than the limit are 413; up to the limit they are read."""
    headers = {LENGTH: "0", "Content-Encoding": coding}
    for size, status in ((LIMIT, 415), (LIMIT + 1, 413), (50 * LIMIT, 413)):
        response = await client.post(f"{MODEL}/infer", content=CODINGS[coding](bytes(size)), headers=headers)
        assert response.status_code == status, response.text


async def test_a_body_that_inflates_in_many_steps_is_whole(checkpoint: Path) -> None:
    """Sizes around the steps in which it is inflated, in one chunk and in many."""
    async with serving(checkpoint, max_body_bytes=2**21) as client:
        for size in (2**18 - 1, 2**18, 2**18 + 1, 2**20 + 7):
            compressed = gzip.compress(IMAGES[0] + bytes(size - len(IMAGES[0])))

            async def pieces(data: bytes = compressed) -> AsyncIterator[bytes]:
                for start in range(0, len(data), 100):
                    yield data[start : start + 100]

            for content in (compressed, pieces()):
                headers = {LENGTH: "0", "Content-Encoding": "gzip"}
                response = await client.post(f"{MODEL}/infer", content=content, headers=headers)
                assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    ("coding", "content", "status", "words"),
    [
        ("gzip", b"hello", 400, "valid gzip"),
        ("gzip", gzip.compress(IMAGES[0])[:-9], 400, "ends before"),
        ("gzip", gzip.compress(IMAGES[0]) + b"more", 400, "behind the end"),
        ("deflate", gzip.compress(IMAGES[0]), 400, "valid deflate"),
        ("br", IMAGES[0], 415, "'br'"),
        ("gzip, gzip", IMAGES[0], 415, "'gzip, gzip'"),
    ],
)
async def test_a_bad_coding_is_refused(
    client: httpx.AsyncClient, coding: str, content: bytes, status: int, words: str
) -> None:
    """Broken streams are 400, unknown codings 415."""
    headers = {LENGTH: "0", "Content-Encoding": coding}
    response = await client.post(f"{MODEL}/infer", content=content, headers=headers)
    assert response.status_code == status
    assert words in response.json()["error"]
