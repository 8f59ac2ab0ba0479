"""The interactive documentation at `/docs`: Swagger UI, from files of the server's own origin.

Owns its page and files. FastAPI's own page loads them from a content delivery network, which a cluster may not reach.
"""

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from app.errors import NotFound
from app.http.routing import OpenRoute
from app.http.schemas import json_response

SCRIPT, STYLE, ICON = "swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png"
# The packaged Swagger UI is of version 4, which reads the version of a document and refuses 3.1. It shows what 3.1 has
# more, such as the type null, all the same.
READABLE_VERSION = "3.0.3"
CACHE = {"Cache-Control": "max-age=86400"}

docs_routes = APIRouter(route_class=OpenRoute)


@docs_routes.get("/docs", include_in_schema=False)
async def page(request: Request) -> Response:
    """The page, whose links have the path under which a proxy shows the server."""
    folder = f"{request.scope.get('root_path', '')}/docs"
    return get_swagger_ui_html(
        openapi_url=f"{folder}/openapi.json",
        title=request.app.title,
        swagger_js_url=f"{folder}/{SCRIPT}",
        swagger_css_url=f"{folder}/{STYLE}",
        swagger_favicon_url=f"{folder}/{ICON}",
    )


@docs_routes.get("/docs/openapi.json", include_in_schema=False)
async def readable_document(request: Request) -> Response:
    """The document of `/openapi.json` as the page reads it."""
    root_path = request.scope.get("root_path")
    servers = {"servers": [{"url": root_path}]} if root_path else {}
    return json_response({**request.app.openapi(), **servers, "openapi": READABLE_VERSION})


@docs_routes.get("/docs/{name}", include_in_schema=False)
async def file(request: Request) -> Response:
    """A file of Swagger UI's."""
    name = request.path_params["name"]
    if name not in (SCRIPT, STYLE, ICON):
        raise NotFound(f"There is no {request.url.path}.")
    return FileResponse(_find_folder() / name, headers=CACHE)


def _find_folder() -> Path:
    """Of the package's one version of Swagger UI."""
    [folder] = Path(str(files("swagger_ui_bundle"))).glob("vendor/swagger-ui-*")
    return folder
