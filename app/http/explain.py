"""The route of explanations: one image in, and out a picture of where a label is seen in it.

Owns its parameter, its two forms of an answer, and what counts as one image.
"""

import re
import time
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from app.errors import InvalidParameter, ServiceError
from app.http.accept import prefers
from app.http.inference import begin_inference, server_timing
from app.http.openapi import IMAGE_BODY, document_parameters, problem_responses
from app.http.routing import GuardedRoute
from app.http.schemas import Explanation, explanation_fields, to_json
from app.http.uploads import Upload, read_uploads

if TYPE_CHECKING:
    from app.serving.explain import TimedExplanation

JSON, PNG = "application/json", "image/png"
INDEX = re.compile(r"[0-9]{1,9}")
LABEL: dict[str, dict[str, Any]] = {
    "label": {
        "type": "string",
        "description": "the label that is explained, by its name or else by its index; by default the most probable",
    }
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "the image with the heat map over it, or the map as numbers",
        "model": Explanation,
        "content": {PNG: {"schema": {"type": "string", "format": "binary"}}},
    }
}

explain_routes = APIRouter(route_class=GuardedRoute)


@explain_routes.post(
    "/explain",
    response_class=Response,
    responses=ANSWERS | problem_responses(400, 401, 413, 415, 422, 429, 500, 503, 504),
    openapi_extra=document_parameters(LABEL) | IMAGE_BODY,
)
async def explain(request: Request) -> Response:
    """Shows where in one image the model sees a label (Grad-CAM): as a picture, or as numbers if JSON is preferred."""
    with begin_inference(request) as inference:
        model, explainer = inference.model, inference.pipeline.explainer
        index = read_label(request.query_params, model.metadata.labels)
        is_drawn = not prefers(request.headers.getlist("accept"), JSON, PNG)
        explainer.check_capacity()  # a body that will be refused need not be read
        async with inference.reading(images=False):
            # At least two, so that two images are refused as two images whatever the setting is.
            settings = inference.settings
            max_images = max(2, settings.max_images)
            uploads = await read_uploads(request, settings.max_body_bytes, max_images, inference.reservation)
        data, share = take_image(uploads), uploads[0].share
        timed = await inference.unless_disconnected(
            explainer.explain(data, index, inference.deadline, share, is_drawn=is_drawn)
        )
    times = times_in_ms(timed, request.state.started)
    request.state.log = {"images": 1, "version": model.version, **times}
    headers = {"X-Model-Version": model.version, "Server-Timing": server_timing(times), "Vary": "Accept"}
    if timed.picture is not None:
        return Response(timed.picture, headers=headers, media_type=PNG)
    return Response(to_json(explanation_fields(model, timed)), headers=headers, media_type=JSON)


def read_label(parameters: QueryParams, labels: tuple[str, ...]) -> int | None:
    """The index of the query's `label`, or None where there is none. A name counts before an index.

    Raises InvalidParameter.
    """
    text = parameters.get("label")
    if text is None:
        return None
    if text in labels:
        return labels.index(text)
    if INDEX.fullmatch(text) and int(text) < len(labels):
        return int(text)
    raise InvalidParameter(f"label is {text!r}, but must be a label's name or an index in 0..{len(labels) - 1}.")


def take_image(uploads: list[Upload]) -> bytes:
    """The one image's bytes. Raises InvalidParameter for several, and the error that stands in the image's place."""
    if len(uploads) != 1:
        raise InvalidParameter(f"The request has {len(uploads)} images, but must have exactly 1.")
    data = uploads[0].data
    if isinstance(data, ServiceError):
        raise data
    return data


def times_in_ms(timed: "TimedExplanation", started: float) -> dict[str, float]:
    """The steps of the explanation, and the whole request so far."""
    seconds = {
        "decode": timed.decode_seconds,
        "queue": timed.queue_seconds,
        "model": timed.model_seconds,
        "total": time.monotonic() - started,
    }
    return {name: round(1000 * value, 3) for name, value in seconds.items()}
