"""Files that the server has in memory and answers as they are.

Owns their types, and how a browser may keep them.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
CACHE_CONTROL = "no-cache"  # a browser keeps the file, and asks each time whether it has changed


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file's bytes, its media type and its entity tag."""

    body: bytes
    media_type: str
    etag: str


def make_file(name: str, body: bytes) -> StaticFile:
    """The file of that name. Raises KeyError for an ending that `MEDIA_TYPES` does not have."""
    return StaticFile(body, MEDIA_TYPES[Path(name).suffix], f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def read_files(paths: Iterable[Path]) -> dict[str, StaticFile]:
    """Every file by its name. Raises OSError where one cannot be read."""
    return {path.name: make_file(path.name, path.read_bytes()) for path in paths}


def file_response(request: Request, file: StaticFile) -> Response:
    """The file, or 304 where the caller's copy of it is the same (RFC 9110, section 13.1.2)."""
    headers = {"ETag": file.etag, "Cache-Control": CACHE_CONTROL}
    if has_copy(request.headers.get("if-none-match", ""), file.etag):
        return Response(status_code=304, headers=headers)
    return Response(file.body, headers=headers, media_type=file.media_type)


def page_response(request: Request, page: StaticFile) -> Response:
    """The page, with links that hold where a proxy shows the server under a path, with or without a slash behind it.

    In the files, links begin with "./", and scripts find the server from their own address.
    """
    root_path = request.scope.get("root_path", "")
    if root_path:
        page = make_file("page.html", page.body.replace(b'"./', f'"{escape(root_path)}/'.encode()))
    return file_response(request, page)


def has_copy(if_none_match: str, etag: str) -> bool:
    """Whether the header of that value names the tag; a proxy that compresses makes tags weak (W/)."""
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or tags == ["*"]
