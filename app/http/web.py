"""The page at `/`: a person drops images and sees what the model makes of them.

Owns its routes. The files are in `app/web`, are read once, and load nothing from another host.
"""

from html import escape
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.errors import NotFound
from app.http.routes import OpenRoute
from app.http.static import file_response, make_file, read_files

FOLDER = Path(__file__).parents[1] / "web"
PAGE = "index.html"


def make_web_routes(folder: Path = FOLDER) -> APIRouter:
    """The routes of the page and of the files that it loads. Raises OSError for files that cannot be read."""
    files = read_files(sorted(path for path in folder.iterdir() if path.is_file()))
    page = files.pop(PAGE)
    routes = APIRouter(route_class=OpenRoute)

    @routes.get("/", include_in_schema=False)
    async def answer_page(request: Request) -> Response:
        return file_response(request, make_file(PAGE, add_root_path(page.body, request)))

    @routes.get("/web/{name}", include_in_schema=False)
    async def answer_file(request: Request) -> Response:
        file = files.get(request.path_params["name"])
        if file is None:
            raise NotFound(f"There is no {request.url.path}.")
        return file_response(request, file)

    return routes


def add_root_path(page: bytes, request: Request) -> bytes:
    """The page with links that also hold where a proxy shows the server under a path, and without a slash behind it.

    In the files, links begin with "./" and scripts find the server from their own address.
    """
    root_path = request.scope.get("root_path", "")
    return page.replace(b'"./', f'"{escape(root_path)}/'.encode()) if root_path else page
