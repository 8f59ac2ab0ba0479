"""An inference response of the Open Inference Protocol: the outputs that were requested, as JSON and as bytes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from app.http.schemas import to_json
from app.protocols.bodies import choose_coding, encode
from app.protocols.oip_models import ModelInfo
from app.protocols.oip_request import HEADER_LENGTH, ParsedRequest, RequestedOutput
from app.protocols.tensors import FLOAT, Floats, join_strings

if TYPE_CHECKING:
    from models.predictions import Prediction


def make_response(
    request: Request,
    parsed: ParsedRequest,
    model: ModelInfo,
    predictions: "Sequence[Prediction]",
    headers: dict[str, str],
) -> Response:
    """The answer for N predictions, with `headers`, in the coding that the client accepts."""
    outputs, binary = [], []
    for wanted in parsed.outputs:
        output, data = _make_output(wanted, model.labels, predictions)
        outputs.append(output)
        binary.append(data)
    document: dict[str, Any] = {"model_name": model.name, "model_version": model.version}
    if parsed.id is not None:
        document["id"] = parsed.id
    body = to_json({**document, "outputs": outputs})
    media_type = "application/json"
    if any(wanted.is_binary for wanted in parsed.outputs):
        headers = {**headers, HEADER_LENGTH: str(len(body))}
        media_type, body = "application/octet-stream", b"".join([body, *binary])
    coding = choose_coding(request)
    headers = {**headers, "Vary": "Accept-Encoding"}
    if coding != "identity":
        headers["Content-Encoding"] = coding
    return Response(encode(body, coding), headers=headers, media_type=media_type)


def _make_output(
    wanted: RequestedOutput, labels: Sequence[str], predictions: "Sequence[Prediction]"
) -> tuple[dict[str, Any], bytes]:
    """The $response_output, and the binary data that belong to it, if any."""
    info = wanted.info
    if info.datatype == "FP32" and not wanted.classes:
        values = np.stack([getattr(prediction, info.name) for prediction in predictions])
        return _describe(wanted, "FP32", values.shape, values.ravel(), values.astype(FLOAT).tobytes())
    if info.datatype == "FP32":
        values = np.stack([getattr(prediction, info.name) for prediction in predictions])
        classes = min(wanted.classes or 0, len(labels))
        return _describe_strings(wanted, (len(values), classes), _classify(values, labels, classes))
    best = [labels[int(np.argmax(prediction.probabilities))] for prediction in predictions]
    return _describe_strings(wanted, (len(best),), best)


def _describe_strings(
    wanted: RequestedOutput, shape: tuple[int, ...], strings: Sequence[str]
) -> tuple[dict[str, Any], bytes]:
    return _describe(wanted, "BYTES", shape, strings, join_strings([string.encode() for string in strings]))


def _describe(
    wanted: RequestedOutput, datatype: str, shape: tuple[int, ...], data: Any, binary: bytes
) -> tuple[dict[str, Any], bytes]:
    output = {"name": wanted.info.name, "datatype": datatype, "shape": shape}
    if wanted.is_binary:
        return {**output, "parameters": {"binary_data_size": len(binary)}}, binary
    return {**output, "data": data}, b""


def _classify(values: Floats, labels: Sequence[str], classes: int) -> list[str]:
    """`value:index:label` of each row's largest values, ties by index (Triton's classification extension)."""
    return [
        f"{row[index]:f}:{index}:{labels[index]}"
        for row in values
        for index in np.argsort(-row, kind="stable")[:classes].tolist()
    ]
