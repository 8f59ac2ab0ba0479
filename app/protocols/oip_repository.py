"""Triton's model repository extension of the Open Inference Protocol.

Owns its routes. The server always has the models of one checkpoint: loading one reloads the checkpoint, and none can be
unloaded.
"""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.errors import BadRequest
from app.http.inference import begin_inference
from app.http.routes import reload_checkpoint
from app.http.routing import GuardedRoute, service_of
from app.http.schemas import json_response
from app.protocols.bodies import JsonLimits, parse_json, read_body
from app.protocols.oip_models import find_model, list_models

NO_OVERRIDES = "A load cannot have the parameter {!r}: what is loaded is the server's checkpoint."
NO_UNLOAD = "The model cannot be unloaded: the server always has the model of its checkpoint."

repository_routes = APIRouter(route_class=GuardedRoute)


@repository_routes.post("/v2/repository/index", include_in_schema=False)
async def index(request: Request) -> Response:
    """$repository_index_response: the models and their state."""
    health, only_ready = service_of(request).health, (await _read_object(request)).get("ready") is True
    if only_ready and not health.ready:
        return json_response([])
    with service_of(request).pipeline() as pipeline:
        models = list_models(pipeline.model)
    state = {"state": "READY" if health.ready else "UNAVAILABLE", "reason": health.reason}
    return json_response([{"name": model.name, "version": model.version, **state} for model in models])


@repository_routes.post("/v2/repository/models/{name}/load", include_in_schema=False)
async def load(request: Request) -> Response:
    """Reloads the checkpoint."""
    parameters = (await _read_object(request)).get("parameters") or {}
    if not isinstance(parameters, dict):
        raise BadRequest("The request's parameters must be an object.")
    for parameter in parameters:
        if parameter == "config" or parameter.startswith("file:"):
            raise BadRequest(NO_OVERRIDES.format(parameter[:80]))
    _check_name(request)
    await reload_checkpoint(service_of(request))
    return json_response({})


@repository_routes.post("/v2/repository/models/{name}/unload", include_in_schema=False)
async def unload(request: Request) -> Response:
    """Is refused."""
    _check_name(request)
    raise BadRequest(NO_UNLOAD)


async def _read_object(request: Request) -> dict[str, Any]:
    """The request's JSON object, which may be left out. Raises what `read_body` and `parse_json` raise."""
    with begin_inference(request) as inference:
        async with inference.reading(images=False):
            body = await read_body(inference)
            document = await parse_json(inference, body, JsonLimits()) if body else {}
    if not isinstance(document, dict):
        raise BadRequest("The body must be a JSON object.")
    return document


def _check_name(request: Request) -> None:
    """Raises NotFound and NotReady."""
    with service_of(request).pipeline() as pipeline:
        find_model(pipeline.model, request.path_params["name"])
