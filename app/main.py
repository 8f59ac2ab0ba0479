"""The application: the service behind its routes.

Owns the wiring, and the translation of the framework's own errors.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NoReturn

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request

from app.decoding.zygote import Zygote
from app.errors import MethodNotAllowed, NotFound
from app.http.docs import make_docs_routes
from app.http.middleware import RequestMiddleware
from app.http.rehearsal import check_answers
from app.http.routes import guarded_routes, metrics_routes, open_routes
from app.http.web import make_web_routes
from app.service import JOIN_SECONDS, RETRY_SECONDS, WATCH_SECONDS, Service
from app.settings import Settings


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

    # As they are, and the busiest first: FastAPI looks through routers that are included one by one, at each request.
    routers = (
        guarded_routes,
        open_routes,
        *((metrics_routes,) if settings.metrics_port is None else ()),
        make_web_routes(),
        make_docs_routes(),
    )
    app = FastAPI(
        title="vggserve",
        description="Batched image classification with VGG networks.",
        lifespan=lifespan,
        routes=[route for router in routers for route in router.routes],
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        exception_handlers={HTTPException: _raise_routing_error},
    )
    app.state.service = service
    app.add_middleware(RequestMiddleware, service=service)
    return app


async def _raise_routing_error(request: Request, error: Exception) -> NoReturn:
    """Starlette's router knows of no other statuses than 404 and 405."""
    if isinstance(error, HTTPException) and error.status_code == 405:
        detail = f"{request.url.path} does not answer {request.method}."
        raise MethodNotAllowed(detail, dict(error.headers or {}))
    raise NotFound(f"There is no {request.url.path}.")
