"""The form of an error, by the protocol that its path belongs to.

Owns which paths speak which protocol, and the values of a caller that a message repeats.
"""

import orjson
from starlette.responses import Response
from starlette.types import Scope

from app.errors import ServiceError
from app.http.middleware import local_path
from app.http.problems import problem_response

# The Open Inference Protocol and KServe's first one. Both have an object with the one string "error".
ERROR_OBJECT_ROOTS = ("v1", "v2")
HUGGING_FACE = ("POST", "/")
LONGEST_VALUE = 80  # characters


def render_error(scope: Scope, error: ServiceError) -> Response:
    """The answer to a request that failed: the protocol's own object, or a problem document (RFC 9457)."""
    path = local_path(scope)
    root = path.partition("/")[2].partition("/")[0]
    if root in ERROR_OBJECT_ROOTS or (scope["method"], path) == HUGGING_FACE:
        return Response(orjson.dumps({"error": error.detail}), error.status, error.headers, "application/json")
    return problem_response(error, scope["state"]["request_id"])


def quote(value: object) -> str:
    """A value of the caller's as a message repeats it: in quotes, and cut off where it is long."""
    text = repr(value[:LONGEST_VALUE] if isinstance(value, str) else value)
    return text if len(text) <= LONGEST_VALUE + 2 else f"{text[:LONGEST_VALUE]}…"
