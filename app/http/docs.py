"""The interactive documentation at `/docs`: Swagger UI, from files of the server's own origin.

Owns its page and files. FastAPI's own page loads them from a content delivery network, which a cluster may not reach,
and has a script in its HTML, which the page's Content-Security-Policy forbids.
"""

from importlib.resources import files as find_package
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.errors import NotFound
from app.http.routing import OpenRoute
from app.http.schemas import json_response
from app.http.static import file_response, page_response, read_files

FOLDER = Path(__file__).parents[1] / "web" / "docs"
PAGE = "index.html"
PACKAGED = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")
# The packaged Swagger UI is of version 4, which reads the version of a document and refuses 3.1. It shows what 3.1 has
# more, such as the type null, all the same.
READABLE_VERSION = "3.0.3"


def make_docs_routes(folder: Path = FOLDER) -> APIRouter:
    """The routes of the page, its files and its document. Raises OSError for files that cannot be read."""
    own = sorted(folder.iterdir())
    files = read_files([*own, *(_find_package_folder() / name for name in PACKAGED)])
    page = files.pop(PAGE)
    routes = APIRouter(route_class=OpenRoute)

    @routes.get("/docs", include_in_schema=False)
    async def answer_page(request: Request) -> Response:
        return page_response(request, page)

    @routes.get("/docs/openapi.json", include_in_schema=False)
    async def answer_document(request: Request) -> Response:
        """The document of `/openapi.json` as the page reads it."""
        root_path = request.scope.get("root_path")
        servers = {"servers": [{"url": root_path}]} if root_path else {}
        return json_response({**request.app.openapi(), **servers, "openapi": READABLE_VERSION})

    @routes.get("/docs/{name}", include_in_schema=False)
    async def answer_file(request: Request) -> Response:
        file = files.get(request.path_params["name"])
        if file is None:
            raise NotFound(f"There is no {request.url.path}.")
        return file_response(request, file)

    return routes


def _find_package_folder() -> Path:
    """Of the package's one version of Swagger UI."""
    [folder] = Path(str(find_package("swagger_ui_bundle"))).glob("vendor/swagger-ui-*")
    return folder
