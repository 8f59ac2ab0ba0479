"""The classes of all routes, and what they get from the application.

Owns the check of API keys, and that each GET route also answers HEAD.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from app.auth import check_key
from app.service import Service


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
