"""What managed platforms ask of a container: SageMaker, Vertex AI, and KServe's first protocol.

Owns their routes. SageMaker takes the native requests and answers at paths of its own. The other two take JSON
`{"instances": […]}` and want `{"predictions": […]}` alone.
"""

from typing import Any

from fastapi import APIRouter
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from app.errors import BadRequest, NotFound, ServiceError, TooManyImages
from app.http.answers import write_predictions
from app.http.inference import Inference, begin_inference, raise_if_all_failed
from app.http.parameters import read_predict_query
from app.http.routes import predict, ready
from app.http.routing import GuardedRoute, OpenRoute, service_of
from app.http.schemas import json_response
from app.protocols.bodies import JsonLimits, decode_base64, parse_json, read_body, run_by_size
from app.protocols.errors import quote
from app.settings import Settings

# The names under which clients of TensorFlow Serving, TorchServe and Vertex AI send an image.
IMAGE_FIELDS = ("b64", "image_bytes", "data", "image")
INSTANCES_ALLOWED = 4  # for each image that is allowed: more are refused before they are parsed
VALUES_OF_INSTANCE = 4
OTHER_VALUES = 64

_sagemaker_probe = APIRouter(route_class=OpenRoute)
_sagemaker_predict = APIRouter(route_class=GuardedRoute)
_v1_models = APIRouter(route_class=OpenRoute)
_v1_predict = APIRouter(route_class=GuardedRoute)
sagemaker_routes = (_sagemaker_probe, _sagemaker_predict)
v1_routes = (_v1_models, _v1_predict)


def make_vertex_routes(settings: Settings) -> tuple[APIRouter, ...]:
    """The routes at the paths that Vertex AI chooses."""
    probe, instances = APIRouter(route_class=OpenRoute), APIRouter(route_class=GuardedRoute)
    if settings.vertex_health_route is not None:
        probe.get(settings.vertex_health_route, include_in_schema=False)(ready)
    if settings.vertex_predict_route is not None:
        instances.post(settings.vertex_predict_route, include_in_schema=False)(predict_instances)
    return probe, instances


@_sagemaker_probe.get("/ping", include_in_schema=False)
async def ping(request: Request) -> Response:
    """200 while requests should be sent here."""
    return await ready(request)


@_sagemaker_predict.post("/invocations", include_in_schema=False)
async def invoke(request: Request) -> Response:
    """Classifies every image of the body, as `POST /predict` does."""
    return await predict(request)


@_v1_models.get("/v1/models", include_in_schema=False)
async def list_models(request: Request) -> Response:
    """The name of the model."""
    with service_of(request).pipeline() as pipeline:
        return json_response({"models": [pipeline.model.metadata.architecture.name]})


@_v1_models.get("/v1/models/{name}", include_in_schema=False)
async def model_ready(request: Request) -> Response:
    """200 while the model's requests should be sent here."""
    health = service_of(request).health
    with service_of(request).pipeline() as pipeline:
        name = _check_name(request, pipeline.model.metadata.architecture.name)
    if health.ready:
        return json_response({"name": name, "ready": True})
    return json_response({"name": name, "ready": False, "error": health.reason}, 503)


@_v1_predict.post("/v1/models/{name}:predict", include_in_schema=False)
async def predict_v1(request: Request) -> Response:
    """Classifies every image of the instances."""
    with service_of(request).pipeline() as pipeline:
        _check_name(request, pipeline.model.metadata.architecture.name)
    return await predict_instances(request)


async def predict_instances(request: Request) -> Response:
    """Classifies every image of the instances. `parameters` may hold what the query of `POST /predict` may."""
    with begin_inference(request) as inference:
        metadata = inference.model.metadata
        async with inference.reading():
            images, parameters = await _read_instances(inference)
        query = read_predict_query(
            QueryParams([*request.query_params.multi_items(), *parameters.items()]),
            len(metadata.labels),
            calibrated=metadata.calibration is not None,
        )
        outcomes = await inference.classify(images, query.coverage)
    raise_if_all_failed(outcomes)
    top_k = query.count_top_labels(len(metadata.labels))
    filenames = [None] * len(outcomes)
    body = await write_predictions(None, outcomes, filenames, metadata.labels, top_k, query.coverage)
    return Response(body, headers=inference.describe(outcomes), media_type="application/json")


async def _read_instances(inference: Inference) -> tuple[list[bytes | ServiceError], dict[str, str]]:
    """The images of the JSON body, and its parameters as a query has them. Raises BadRequest and TooManyImages."""
    max_images = inference.settings.max_images
    body = await read_body(inference)
    allowed = INSTANCES_ALLOWED * max_images
    limits = JsonLimits(VALUES_OF_INSTANCE * allowed + OTHER_VALUES, objects=2 * allowed + OTHER_VALUES)
    document = await parse_json(inference, body, limits)
    instances = document.get("instances") if isinstance(document, dict) else None
    if not isinstance(instances, list) or not instances:
        raise BadRequest('The JSON body must be an object with a list "instances" of at least one image.')
    if len(instances) > max_images:
        raise TooManyImages(f"The request has {len(instances)} images, more than the allowed {max_images}.")
    parameters = document.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise BadRequest("The request's parameters must be an object.")
    images = await run_by_size(len(body), lambda: [_decode_instance(instance) for instance in instances])
    return images, {name: str(value) for name, value in parameters.items()}


def _decode_instance(instance: Any) -> bytes | ServiceError:
    """The image of an instance: base64, alone or under one of IMAGE_FIELDS, there also as `{"b64": …}`."""
    for _ in range(2):
        if isinstance(instance, dict):
            instance = next((instance[name] for name in IMAGE_FIELDS if name in instance), None)
    if not isinstance(instance, str):
        fields = ", ".join(IMAGE_FIELDS)
        return BadRequest(f"The instance is not an object with an image in base64 under one of {fields}.")
    try:
        return decode_base64(instance, "The instance's image")
    except BadRequest as error:
        return error.without_traceback()


def _check_name(request: Request, expected: str) -> str:
    """Raises NotFound for another model's name."""
    name = request.path_params["name"]
    if name != expected:
        raise NotFound(f"There is no model {quote(name)}; there is {expected}.")
    return expected
