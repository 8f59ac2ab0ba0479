"""The routes of the native interface.

Owns each route's parameters, headers and status codes.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from app.auth import check_key
from app.errors import DeadlineExceeded, InvalidCheckpoint, NotFound, NotReady, ReloadFailed, ServiceError
from app.health import Health
from app.http.openapi import IMAGES_BODY, document_parameters, problem_responses
from app.http.parameters import PREDICT_SCHEMAS, check_class_images, read_predict_query, read_timeout
from app.http.schemas import (
    HealthReport,
    ModelInfo,
    Predictions,
    Reloaded,
    model_id_fields,
    model_info_fields,
    prediction_fields,
    to_json,
)
from app.http.uploads import read_uploads
from app.logs import describe_error
from app.metrics import MEDIA_TYPE
from app.service import Service

if TYPE_CHECKING:
    from app.serving.pipeline import Classification

log = logging.getLogger("vggserve.routes")
JSON = "application/json"
LATE = "The request's time was up before its body had arrived."


class OpenRoute(APIRoute):
    """A route that FastAPI documents and otherwise leaves alone: its function gets the request itself.

    Solving dependencies, of which each request has the same, was a twelfth of what an image cost outside the model
    (benchmarks/results/request-32.md).
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        return self.answer

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """A GET route also answers HEAD. `methods` does not say so: OpenAPI would list each route twice."""
        if scope["type"] == "http" and scope["method"] == "HEAD" and "GET" in (self.methods or ()):
            return super().matches({**scope, "method": "GET"})
        return super().matches(scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The server leaves out the body of an answer to HEAD."""
        if scope["method"] == "HEAD" and "GET" in (self.methods or ()):
            await self.app(scope, receive, send)
        else:
            await super().handle(scope, receive, send)

    async def answer(self, request: Request) -> Response:
        """Calls the route's function."""
        response: Response = await self.endpoint(request)
        return response


class GuardedRoute(OpenRoute):
    """A route for callers with an API key, where there are keys."""

    async def answer(self, request: Request) -> Response:
        """Raises Unauthorized, or calls the route's function."""
        check_key(request, service_of(request).keys)
        return await super().answer(request)


def service_of(request: Request) -> Service:
    """The service that the application was made with."""
    service: Service = request.app.state.service
    return service


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
    service, started = service_of(request), request.state.started
    settings = service.settings
    deadline = started + read_timeout(request.headers.get("x-request-timeout"), settings.request_timeout)
    with service.pipeline() as pipeline, service.body_memory.reserve() as reservation:
        model = pipeline.model
        labels, calibration = model.metadata.labels, model.metadata.calibration
        decisions, tables = (calibration.decisions, calibration.by_class) if calibration else (None, None)
        query = read_predict_query(
            request.query_params,
            len(labels),
            calibrated=calibration is not None,
            decides=decisions is not None,
            by_class=tables is not None,
        )
        if tables:
            check_class_images(query, labels, tables)
        pipeline.queue.check_capacity()  # a body that will be refused need not be read
        async with fail_after(deadline):
            uploads = await read_uploads(request, settings.max_body_bytes, settings.max_images, reservation)
        async with cancel_on_disconnect(request):
            outcomes = await pipeline.classify(
                [upload.data for upload in uploads], deadline, query.coverage, per_class=query.per_class
            )
    raise_if_all_failed(outcomes)
    top_k = query.count_top_labels(len(labels))
    threshold = decisions.find_threshold(query.max_error) if decisions and query.max_error is not None else None
    predictions = [
        prediction_fields(outcome, labels, top_k, query.coverage, upload.filename, threshold)
        for outcome, upload in zip(outcomes, uploads, strict=True)
    ]
    times = times_in_ms(outcomes, started)
    request.state.log = {"images": len(uploads), "version": model.version, **times}
    headers = {"X-Model-Version": model.version, "Server-Timing": server_timing(times)}
    return Response(
        to_json({"model": model_id_fields(model), "predictions": predictions}), headers=headers, media_type=JSON
    )


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
    try:
        with service.pipeline() as pipeline:
            previous = model_id_fields(pipeline.model)
        loaded = await service.reload()
    except NotReady:
        await service.reload_keys()  # a key that was revoked must not wait for a model
        raise
    except ValueError as error:
        log.error("reload: %s; the model before it serves on", describe_error(error))  # noqa: TRY400
        raise InvalidCheckpoint(f"{error}; the model before it serves on.") from error
    except Exception as error:
        log.error("reload: %s; the model before it serves on", describe_error(error))  # noqa: TRY400
        raise ReloadFailed(f"The load failed with {type(error).__name__}; the model before it serves on.") from error
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


def raise_if_all_failed(outcomes: "Sequence[Classification | ServiceError]") -> None:
    """One answer for all images is an answer for the request: the first one's error."""
    first = outcomes[0]
    if isinstance(first, ServiceError) and all(isinstance(outcome, ServiceError) for outcome in outcomes):
        raise first


def times_in_ms(outcomes: "Sequence[Classification | ServiceError]", started: float) -> dict[str, float]:
    """The slowest image's steps, and the whole request so far."""
    done = [outcome.timed for outcome in outcomes if not isinstance(outcome, ServiceError)]
    seconds = {
        "decode": max(answer.decode_seconds for answer in done),
        "queue": max(answer.queue_seconds for answer in done),
        "model": max(answer.model_seconds for answer in done),
        "total": time.monotonic() - started,
    }
    return {name: round(1000 * value, 3) for name, value in seconds.items()}


def server_timing(times: dict[str, float]) -> str:
    """The `Server-Timing` header of the W3C."""
    return ", ".join(f"{name};dur={ms}" for name, ms in times.items())


@asynccontextmanager
async def fail_after(deadline: float) -> AsyncIterator[None]:
    """Raises DeadlineExceeded when the deadline, in `time.monotonic` seconds, passes inside the block."""
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            yield
    except TimeoutError as error:
        raise DeadlineExceeded(LATE) from error


@asynccontextmanager
async def cancel_on_disconnect(request: Request) -> AsyncIterator[None]:
    """Cancels what the block awaits when the client hangs up; then raises ClientDisconnect.

    The request's body must have been read: what is received after it can only be the disconnect.
    """
    task = asyncio.current_task()
    assert task is not None
    watch = asyncio.create_task(_disconnected(request))
    watch.add_done_callback(lambda done: None if done.cancelled() else task.cancel())
    try:
        yield
    except asyncio.CancelledError:
        if watch.done() and not watch.cancelled():
            task.uncancel()
            raise ClientDisconnect from None
        raise
    finally:
        watch.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
