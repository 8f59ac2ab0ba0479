"""Hugging Face's image-classification task, as its Inference Endpoints and `InferenceClient` speak it.

Owns the route `POST /`. Specification: image-classification of huggingface.js' packages/tasks.
"""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from app.errors import BadRequest, InvalidParameter
from app.http.inference import Inference, begin_inference, raise_if_any_failed
from app.http.parameters import DEFAULT_TOP_K
from app.http.routing import GuardedRoute
from app.http.schemas import json_response
from app.protocols.bodies import JsonLimits, decode_base64, parse_json, read_body, run_by_size
from app.protocols.errors import quote

if TYPE_CHECKING:
    from models.predictions import Prediction

JSON_START = b"{"  # which no image file begins with
LONGEST_MARGIN = 64  # bytes of blanks before it

huggingface_routes = APIRouter(route_class=GuardedRoute)


class Parameters(BaseModel):
    """Of the task. `top_k` may be larger than the number of labels, as in transformers' pipelines."""

    model_config = ConfigDict(strict=True)

    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = None
    top_k: int | None = Field(default=None, ge=1)


@huggingface_routes.post("/", include_in_schema=False)
async def classify_image(request: Request) -> Response:
    """Classifies the one image of the body."""
    with begin_inference(request) as inference:
        async with inference.reading():
            image, parameters = await _read_image(inference)
        outcomes = await inference.classify([image])
    [classification] = raise_if_any_failed(outcomes)
    labels = inference.model.metadata.labels
    prediction = classification.timed.prediction
    scores = _apply_function(prediction, parameters.function_to_apply)
    best = np.argsort(-prediction.logits, kind="stable")[: parameters.top_k or DEFAULT_TOP_K]
    answer = [{"label": labels[index], "score": scores[index]} for index in best]
    return json_response(answer, headers=inference.describe(outcomes))


async def _read_image(inference: Inference) -> tuple[bytes, Parameters]:
    """The image's bytes: the body itself, or `inputs` of its JSON object. Raises BadRequest and InvalidParameter."""
    body = await read_body(inference)
    if not body:
        raise BadRequest("There is no image in the request.")
    media_type = inference.request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and body[:LONGEST_MARGIN].lstrip()[:1] != JSON_START:
        return body, Parameters()
    document = await parse_json(inference, body, JsonLimits())
    text = document.get("inputs") if isinstance(document, dict) else None
    if not isinstance(text, str):
        raise BadRequest('The body must be an image, or a JSON object with "inputs", an image in base64.')
    parameters = _check_parameters(document.get("parameters") or {})
    return await run_by_size(len(body), decode_base64, text, "inputs"), parameters


def _check_parameters(given: Any) -> Parameters:
    try:
        return Parameters.model_validate(given)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name = ".".join(["parameters", *map(str, fault["loc"])])
        raise InvalidParameter(f"{name} is {quote(fault['input'])}: {fault['msg'].lower()}.") from error


def _apply_function(prediction: "Prediction", function: str | None) -> NDArray[np.float32]:
    """(K,) scores: the calibrated probabilities, the sigmoid of the logits, or the logits."""
    if function == "none":
        return prediction.logits
    if function == "sigmoid":
        sigmoid: NDArray[np.float32] = np.exp(-np.logaddexp(0, -prediction.logits))  # without an overflow
        return sigmoid
    return prediction.probabilities
