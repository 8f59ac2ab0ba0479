"""The routes of the native interface.

Owns each route's parameters, headers and status codes.
"""

import logging
from typing import TYPE_CHECKING

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.errors import InvalidCheckpoint, NotFound, NotReady, ReloadFailed
from app.health import Health
from app.http.answers import write_predictions
from app.http.inference import begin_inference, raise_if_all_failed
from app.http.openapi import IMAGES_BODY, document_parameters, problem_responses
from app.http.parameters import PREDICT_SCHEMAS, read_predict_query
from app.http.routing import GuardedRoute, OpenRoute, service_of
from app.http.schemas import (
    HealthReport,
    ModelInfo,
    Predictions,
    Reloaded,
    model_id_fields,
    model_info_fields,
    to_json,
)
from app.http.uploads import read_uploads
from app.logs import describe_error
from app.metrics import MEDIA_TYPE
from app.service import Service

if TYPE_CHECKING:
    from app.serving.pipeline import LoadedModel

log = logging.getLogger("vggserve.routes")
JSON = "application/json"

open_routes = APIRouter(route_class=OpenRoute)
metrics_routes = APIRouter(route_class=OpenRoute)
guarded_routes = APIRouter(route_class=GuardedRoute)


@guarded_routes.post(
    "/predict",
    response_model=Predictions,
    responses=problem_responses(400, 401, 413, 415, 422, 429, 500, 503, 504),
    openapi_extra=document_parameters(PREDICT_SCHEMAS) | IMAGES_BODY,
)
async def predict(request: Request) -> Response:
    """Classifies every image of the body."""
    with begin_inference(request) as inference:
        model, settings = inference.model, inference.settings
        labels, calibrated = model.metadata.labels, model.metadata.calibration is not None
        query = read_predict_query(request.query_params, len(labels), calibrated=calibrated)
        async with inference.reading():
            uploads = await read_uploads(request, settings.max_body_bytes, settings.max_images, inference.reservation)
        images, shares = [upload.data for upload in uploads], [upload.share for upload in uploads]
        outcomes = await inference.classify(images, query.coverage, shares)
    raise_if_all_failed(outcomes)
    top_k = query.count_top_labels(len(labels))
    filenames = [upload.filename for upload in uploads]
    body = await write_predictions(model_id_fields(model), outcomes, filenames, labels, top_k, query.coverage)
    return Response(body, headers=inference.describe(outcomes), media_type=JSON)


@guarded_routes.get("/model", response_model=ModelInfo, responses=problem_responses(401, 503))
async def model(request: Request) -> Response:
    """What the server answers with: name, version, labels, preprocessing, metrics, limits."""
    service = service_of(request)
    with service.pipeline() as pipeline:
        body = to_json(model_info_fields(pipeline.model, service.settings))
        return Response(body, headers={"X-Model-Version": pipeline.model.version}, media_type=JSON)


@guarded_routes.post("/admin/reload", response_model=Reloaded, responses=problem_responses(401, 404, 422, 500, 503))
async def reload(request: Request) -> Response:
    """Loads the checkpoint's file anew and lets it take over; needs an API key, and there must be one."""
    service = service_of(request)
    if not service.keys:
        raise NotFound(f"There is no {request.url.path} where no API keys are set.")
    previous, loaded = await reload_checkpoint(service)
    return Response(to_json({"model": model_id_fields(loaded), "previous": previous}), media_type=JSON)


@open_routes.get("/health/live", response_model=HealthReport, responses={503: {"model": HealthReport}})
async def live(request: Request) -> Response:
    """200 while the process can make progress, also while it loads or drains."""
    health = service_of(request).health
    return health_response(health, healthy=health.live)


@open_routes.get("/health/ready", response_model=HealthReport, responses={503: {"model": HealthReport}})
async def ready(request: Request) -> Response:
    """200 while requests should be sent here."""
    health = service_of(request).health
    return health_response(health, healthy=health.ready)


@open_routes.get("/health/startup", response_model=HealthReport, responses={503: {"model": HealthReport}})
async def startup(request: Request) -> Response:
    """200 from the first time that the service was ready."""
    health = service_of(request).health
    return health_response(health, healthy=health.started)


@metrics_routes.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Prometheus text."""
    return Response(service_of(request).metrics.render(), media_type=MEDIA_TYPE)


def health_response(health: Health, *, healthy: bool) -> Response:
    return Response(to_json(health.report()), 200 if healthy else 503, media_type=JSON)


async def reload_checkpoint(service: Service) -> "tuple[dict[str, str], LoadedModel]":
    """Reloads the keys and the checkpoint. Returns the fields of the model before it, and the new model.

    Raises InvalidCheckpoint, ReloadFailed and NotReady.
    """
    try:
        with service.pipeline() as pipeline:
            previous = model_id_fields(pipeline.model)
        return previous, await service.reload()
    except NotReady:
        await service.reload_keys()  # a key that was revoked must not wait for a model
        raise
    except ValueError as error:
        log.error("reload: %s; the model before it serves on", describe_error(error))  # noqa: TRY400
        raise InvalidCheckpoint(f"{error}; the model before it serves on.") from error
    except Exception as error:
        log.error("reload: %s; the model before it serves on", describe_error(error))  # noqa: TRY400
        raise ReloadFailed(f"The load failed with {type(error).__name__}; the model before it serves on.") from error
