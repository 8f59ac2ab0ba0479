"""The one way from an error to an answer: the problem document of RFC 9457."""

from http import HTTPStatus

import orjson
from starlette.responses import Response

from app.errors import ServiceError

PROBLEM_MEDIA_TYPE = "application/problem+json"


def problem_response(error: ServiceError, request_id: str) -> Response:
    """The problem document of RFC 9457, with the extensions `code` and `request_id`."""
    document = {
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "request_id": request_id,
    }
    return Response(orjson.dumps(document), error.status, error.headers, PROBLEM_MEDIA_TYPE)
