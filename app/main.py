"""The application: the service behind its routes.

Owns the wiring, and the translation of the framework's own errors.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NoReturn

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request

from app.decoding.zygote import Zygote
from app.errors import MethodNotAllowed, NotFound
from app.http.docs import make_docs_routes
from app.http.explain import explain_routes
from app.http.middleware import ErrorMiddleware, RequestMiddleware
from app.http.rehearsal import check_answers
from app.http.routes import guarded_routes, metrics_routes, open_routes
from app.http.web import make_web_routes
from app.protocols.cloud import make_vertex_routes, sagemaker_routes, v1_routes
from app.protocols.errors import render_error
from app.protocols.huggingface import huggingface_routes
from app.protocols.oip_repository import repository_routes
from app.protocols.oip_v2 import infer_routes, metadata_routes
from app.protocols.statistics import Statistics
from app.service import JOIN_SECONDS, RETRY_SECONDS, WATCH_SECONDS, Service
from app.settings import Settings

VERSION = "0.2.0"  # as in pyproject.toml, which is not in the image
CORS_METHODS = ("GET", "HEAD", "POST")
CORS_REQUEST_HEADERS = (
    "Authorization",
    "Content-Encoding",
    "Inference-Header-Content-Length",
    "X-API-Key",
    "X-Request-ID",
    "X-Request-Timeout",
)
CORS_RESPONSE_HEADERS = (
    "Inference-Header-Content-Length",
    "Retry-After",
    "Server-Timing",
    "X-Model-Version",
    "X-Request-ID",
)


def create_app(
    settings: Settings,
    zygote: Zygote,
    retry_seconds: float = RETRY_SECONDS,
    watch_seconds: float = WATCH_SECONDS,
    join_seconds: float = JOIN_SECONDS,
) -> FastAPI:
    """The application. It answers probes from its start on and loads the model meanwhile.

    `zygote` starts the decoder processes and is closed by the caller.
    """
    service = Service(settings, zygote, check_answers, retry_seconds, watch_seconds, join_seconds)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        app.state.starting = asyncio.create_task(service.start())
        try:
            yield
        finally:
            app.state.starting.cancel()
            await service.close()

    optional = (metrics_routes,) if settings.metrics_port is None else ()
    # As they are, and the busiest first: FastAPI looks through routers that are included one by one, at each request.
    routers = (
        guarded_routes,
        open_routes,
        explain_routes,
        *optional,
        infer_routes,
        metadata_routes,
        repository_routes,
        huggingface_routes,
        *sagemaker_routes,
        *v1_routes,
        *make_vertex_routes(settings),
        make_web_routes(),
        make_docs_routes(),
    )
    app = FastAPI(
        title="vggserve",
        version=VERSION,
        description="Batched image classification with VGG networks.",
        lifespan=lifespan,
        routes=[route for router in routers for route in router.routes],
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        exception_handlers={HTTPException: _raise_routing_error},
    )
    app.state.service = service
    app.state.statistics = Statistics()
    # The last one is the outermost. So errors have the headers of CORS, and answers to preflights a request id.
    app.add_middleware(ErrorMiddleware, service=service, render=render_error)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=CORS_METHODS,
            allow_headers=CORS_REQUEST_HEADERS,
            expose_headers=CORS_RESPONSE_HEADERS,
        )
    app.add_middleware(RequestMiddleware, service=service)
    return app


async def _raise_routing_error(request: Request, error: Exception) -> NoReturn:
    """Starlette's router knows of no other statuses than 404 and 405."""
    if isinstance(error, HTTPException) and error.status_code == 405:
        detail = f"{request.url.path} does not answer {request.method}."
        raise MethodNotAllowed(detail, dict(error.headers or {}))
    raise NotFound(f"There is no {request.url.path}.")
