"""The parts of the OpenAPI document that FastAPI cannot derive from the code.

Owns parameters, request bodies and the problem responses.
"""

from typing import Any

from app.http.problems import PROBLEM_MEDIA_TYPE
from app.http.schemas import Problem

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_INSTANCE = {
    "type": "object",
    "required": ["b64"],
    "properties": {"b64": {"type": "string", "contentEncoding": "base64"}},
}
_INSTANCES = {
    "type": "object",
    "required": ["instances"],
    "properties": {"instances": {"type": "array", "minItems": 1, "items": _INSTANCE}},
}
_FORM = {"type": "object", "additionalProperties": {"type": "string", "format": "binary"}}

_FILE = {"type": "string", "format": "binary"}
_ONE_FILE = {"type": "object", "required": ["image"], "properties": {"image": _FILE}}
_ONE_INSTANCE = {
    "type": "object",
    "required": ["instances"],
    "properties": {"instances": {"type": "array", "minItems": 1, "maxItems": 1, "items": _INSTANCE}},
}

IMAGES_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": _BINARY,
            "application/octet-stream": _BINARY,
            "multipart/form-data": {"schema": _FORM},
            "application/json": {"schema": _INSTANCES},
        },
    }
}


IMAGE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": _BINARY,
            "application/octet-stream": _BINARY,
            "multipart/form-data": {"schema": _ONE_FILE},
            "application/json": {"schema": _ONE_INSTANCE},
        },
    }
}


def document_parameters(schemas: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A route's `parameters`, from the JSON schema of each query parameter."""
    return {"parameters": [_document_parameter(name, schema) for name, schema in schemas.items()]}


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """A route's `responses` for these error statuses."""
    content = {PROBLEM_MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    return {status: {"description": "a problem document", "content": content} for status in statuses}


def _document_parameter(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    values = {key: value for key, value in schema.items() if key not in ("title", "default", "description")}
    return {"name": name, "in": "query", "description": schema["description"], "schema": values}
