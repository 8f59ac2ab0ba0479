"""What happens around every request, whatever its route.

Owns the request id, the last line of defence against unforeseen errors, the request's log line and its counts.
"""

import logging
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import Draining, Internal, ServiceError
from app.health import Phase
from app.http.parameters import choose_request_id
from app.http.problems import problem_response
from app.logs import FIELDS
from app.service import Service

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
PROBES = ("/health/", "/metrics")


class RequestMiddleware:
    """A plain ASGI middleware, so that a disconnect reaches the route as it is."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app = app
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        with self.service.requests:
            try:
                if "refusal" in scope["state"]:
                    raise scope["state"]["refusal"]
                if self.service.health.phase is Phase.CLOSED and not scope["path"].startswith(PROBES):
                    raise Draining
                await self.app(scope, exchange.receive, exchange.send)
            except ServiceError as error:
                await exchange.fail(error.without_traceback())
            except ClientDisconnect:
                log.debug("the client hung up", extra={FIELDS: {"id": exchange.request_id}})
            except Exception:
                log.exception("unforeseen error", extra={FIELDS: {"id": exchange.request_id}})
                await exchange.fail(Internal())
            finally:
                self._account(scope, exchange)

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
        level = logging.DEBUG if scope["path"].startswith(PROBES) else logging.INFO
        log.log(level, "request", extra={FIELDS: fields})


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.started = time.monotonic()
        self.request_id = choose_request_id(Headers(scope=scope).get("x-request-id"))
        self.status = CLIENT_CLOSED_REQUEST
        self.received_bytes = 0
        self._scope, self._receive, self._send = scope, receive, send
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

    async def fail(self, error: ServiceError) -> None:
        """Answers with `error`, unless an answer has begun already."""
        if self.status == CLIENT_CLOSED_REQUEST:
            await problem_response(error, self.request_id)(self._scope, self._receive, self.send)
