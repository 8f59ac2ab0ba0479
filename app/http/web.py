"""The page at `/`: a person drops images and sees what the model makes of them.

Owns its routes. The files are in `app/web`, are read once, and load nothing from another host.
"""

from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.errors import NotFound
from app.http.routing import OpenRoute
from app.http.static import file_response, page_response, read_files

FOLDER = Path(__file__).parents[1] / "web"
PAGE = "index.html"


def make_web_routes(folder: Path = FOLDER) -> APIRouter:
    """The routes of the page and of the files that it loads. Raises OSError for files that cannot be read."""
    files = read_files(sorted(path for path in folder.iterdir() if path.is_file()))
    page = files.pop(PAGE)
    routes = APIRouter(route_class=OpenRoute)

    @routes.get("/", include_in_schema=False)
    async def answer_page(request: Request) -> Response:
        return page_response(request, page)

    @routes.get("/web/{name}", include_in_schema=False)
    async def answer_file(request: Request) -> Response:
        file = files.get(request.path_params["name"])
        if file is None:
            raise NotFound(f"There is no {request.url.path}.")
        return file_response(request, file)

    return routes
