"""The Open Inference Protocol, version 2, over REST, with Triton's extensions.

Owns its routes for health, metadata and inference. Specification: kserve/open-inference-protocol, inference_rest.md,
and docs/protocol of triton-inference-server/server for the extensions.
"""

import time
from collections.abc import Sequence

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.errors import ServiceError
from app.http.inference import Inference, begin_inference, raise_if_any_failed
from app.http.routing import GuardedRoute, OpenRoute, service_of
from app.http.schemas import json_response
from app.protocols.oip_models import ModelInfo, find_model, list_models
from app.protocols.oip_request import read_request
from app.protocols.oip_response import make_response
from app.protocols.statistics import Statistics

SERVER = "vggserve"
EXTENSIONS = ("binary_tensor_data", "classification", "model_configuration", "model_repository", "statistics")
MODEL = "/v2/models/{name}"
VERSION = MODEL + "/versions/{version}"

infer_routes = APIRouter(route_class=GuardedRoute)
metadata_routes = APIRouter(route_class=OpenRoute)


@infer_routes.post(MODEL + "/infer", include_in_schema=False)
@infer_routes.post(VERSION + "/infer", include_in_schema=False)
async def infer(request: Request) -> Response:
    """Classifies the images or normalised pixels of the input tensor."""
    with begin_inference(request) as inference:
        model = find_model(inference.model, **request.path_params)
        statistics = _statistics_of(request)
        try:
            return await _infer(inference, model, statistics)
        except ServiceError:
            statistics.add_failure(model, _seconds(request))
            raise


async def _infer(inference: Inference, model: ModelInfo, statistics: Statistics) -> Response:
    request = inference.request
    async with inference.reading():
        parsed = await read_request(inference, model)
    if parsed.timeout_seconds is not None:
        inference.limit_time(parsed.timeout_seconds)
    if isinstance(parsed.images, list):
        outcomes = await inference.classify(parsed.images)
    else:
        outcomes = await inference.classify_tensors(parsed.images)
    timed = [classification.timed for classification in raise_if_any_failed(outcomes)]
    predictions = [image.prediction for image in timed]
    response = make_response(request, parsed, model, predictions, inference.describe(outcomes))
    statistics.add_success(model, timed, _seconds(request))
    return response


@metadata_routes.get("/v2", include_in_schema=False)
@metadata_routes.get("/v2/", include_in_schema=False)
async def server_metadata(request: Request) -> Response:
    """$metadata_server_response."""
    return json_response({"name": SERVER, "version": request.app.version, "extensions": EXTENSIONS})


@metadata_routes.get("/v2/health/live", include_in_schema=False)
async def live(request: Request) -> Response:
    """200 while the process can make progress."""
    health = service_of(request).health
    return _health("live", healthy=health.live, reason=health.reason)


@metadata_routes.get("/v2/health/ready", include_in_schema=False)
async def ready(request: Request) -> Response:
    """200 while requests should be sent here."""
    health = service_of(request).health
    return _health("ready", healthy=health.ready, reason=health.reason)


@metadata_routes.get("/v2/models/stats", include_in_schema=False)
async def all_statistics(request: Request) -> Response:
    """$stats_model_response of all models."""
    with service_of(request).pipeline() as pipeline:
        return _report(request, list_models(pipeline.model))


@metadata_routes.get(MODEL, include_in_schema=False)
@metadata_routes.get(VERSION, include_in_schema=False)
async def model_metadata(request: Request) -> Response:
    """$metadata_model_response."""
    return json_response(_find(request).metadata())


@metadata_routes.get(MODEL + "/ready", include_in_schema=False)
@metadata_routes.get(VERSION + "/ready", include_in_schema=False)
async def model_ready(request: Request) -> Response:
    """200 while the model's requests should be sent here."""
    health = service_of(request).health
    return _health("ready", healthy=health.ready, reason=health.reason, name=_find(request).name)


@metadata_routes.get(MODEL + "/config", include_in_schema=False)
@metadata_routes.get(VERSION + "/config", include_in_schema=False)
async def model_config(request: Request) -> Response:
    """Triton's ModelConfig."""
    return json_response(_find(request).config(service_of(request).settings.max_images))


@metadata_routes.get(MODEL + "/stats", include_in_schema=False)
@metadata_routes.get(VERSION + "/stats", include_in_schema=False)
async def model_statistics(request: Request) -> Response:
    """$stats_model_response of one model."""
    return _report(request, [_find(request)])


def _find(request: Request) -> ModelInfo:
    """The model that the path names. Raises NotFound and NotReady."""
    with service_of(request).pipeline() as pipeline:
        return find_model(pipeline.model, **request.path_params)


def _health(what: str, *, healthy: bool, reason: str, **fields: str) -> Response:
    if healthy:
        return json_response({**fields, what: True})
    return json_response({**fields, what: False, "error": reason}, 503)


def _report(request: Request, models: Sequence[ModelInfo]) -> Response:
    statistics = _statistics_of(request)
    return json_response({"model_stats": [statistics.report(model) for model in models]})


def _statistics_of(request: Request) -> Statistics:
    statistics: Statistics = request.app.state.statistics
    return statistics


def _seconds(request: Request) -> float:
    """Since the request's start."""
    started: float = request.state.started
    return time.monotonic() - started
