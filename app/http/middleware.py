"""What happens around every request, whatever its route.

Owns the request id, the last line of defence against unforeseen errors, the request's log line and its counts.
"""

import logging
import time
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import Draining, Internal, ServiceError
from app.health import Phase
from app.http.parameters import choose_request_id
from app.logs import FIELDS
from app.service import Service
from app.settings import Settings

RenderError = Callable[[Scope, ServiceError], Response]

log = logging.getLogger("vggserve.request")
CLIENT_CLOSED_REQUEST = 499  # nginx' number for a client that hung up; it is logged and counted, never sent
UNMATCHED = "unmatched"
POLICY = {  # of Content-Security-Policy: pages load from their own origin alone, and no script or style stands in them
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob: data:",
    "connect-src": "'self'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
    "form-action": "'none'",
}
PAGE_HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {sources}" for name, sources in POLICY.items()),
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
PROBES = ("/health/", "/metrics", "/ping", "/v2/health/")


def local_path(scope: Scope) -> str:
    """The request's path without the `root_path` under which a proxy shows the server."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def is_probe(scope: Scope, settings: Settings) -> bool:
    """Whether the request asks for health or metrics."""
    path = local_path(scope)
    return path.startswith(PROBES) or path == settings.vertex_health_route


class RequestMiddleware:
    """The outermost middleware. It is a plain ASGI one, so that a disconnect reaches the route as it is."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app = app
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self._set_root_path(scope)
        exchange = _Exchange(scope, receive, send)
        with self.service.requests:
            try:
                await self.app(scope, exchange.receive, exchange.send)
            finally:
                self._account(scope, exchange)

    def _set_root_path(self, scope: Scope) -> None:
        """A proxy may remove the prefix from a request's path or leave it; in ASGI the path has it."""
        root_path, path = self.service.settings.root_path, scope["path"]
        if root_path:
            local = path[len(root_path) :] if f"{path}/".startswith(f"{root_path}/") else path
            scope["root_path"], scope["path"] = root_path, root_path + (local or "/")

    def _account(self, scope: Scope, exchange: "_Exchange") -> None:
        # An unknown path is counted under one name: callers must not be able to make up new series.
        route = getattr(scope.get("route"), "path", UNMATCHED)
        seconds = time.monotonic() - exchange.started
        self.service.metrics.requests.labels(route, exchange.status).inc()
        self.service.metrics.request_seconds.labels(route).observe(seconds)
        fields = {
            "id": exchange.request_id,
            "method": scope["method"],
            "route": route,
            "status": exchange.status,
            "bytes": exchange.received_bytes,
            "total": round(1000 * seconds, 3),
            **scope["state"].get("log", {}),
        }
        level = logging.DEBUG if is_probe(scope, self.service.settings) else logging.INFO
        log.log(level, "request", extra={FIELDS: fields})


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.started = time.monotonic()
        self.request_id = choose_request_id(Headers(scope=scope).get("x-request-id"))
        self.status = CLIENT_CLOSED_REQUEST
        self.received_bytes = 0
        self._receive, self._send = receive, send
        scope.setdefault("state", {}).update(started=self.started, request_id=self.request_id)

    async def receive(self) -> Message:
        message = await self._receive()
        self.received_bytes += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self.request_id
            headers["X-Content-Type-Options"] = "nosniff"
            if headers.get("content-type", "").startswith("text/html"):
                headers.update(PAGE_HEADERS)
        await self._send(message)


class ErrorMiddleware:
    """The innermost middleware. It turns errors into answers, in the form that `render` gives them."""

    def __init__(self, app: ASGIApp, service: Service, render: RenderError) -> None:
        self.app = app
        self.service = service
        self.render = render

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        has_begun = False

        async def send_watched(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        async def fail(error: ServiceError) -> None:
            if not has_begun:
                await self.render(scope, error)(scope, receive, send)

        fields = {FIELDS: {"id": scope["state"]["request_id"]}}
        try:
            if "refusal" in scope["state"]:
                raise scope["state"]["refusal"]
            if self.service.health.phase is Phase.CLOSED and not is_probe(scope, self.service.settings):
                raise Draining
            await self.app(scope, receive, send_watched)
        except ServiceError as error:
            await fail(error.without_traceback())
        except ClientDisconnect:
            log.debug("the client hung up", extra=fields)
        except Exception:
            log.exception("unforeseen error", extra=fields)
            await fail(Internal())
