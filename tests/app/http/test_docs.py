"""The interactive documentation, which needs no other host."""

import re
from pathlib import Path

import httpx
import pytest

from tests.fakes.service import serving

pytestmark = pytest.mark.anyio
URL = re.compile(r"""(?:src|href|url)\s*[=:]\s*["']([^"']+)["']""")


async def test_the_page_loads_everything_from_here(checkpoint: Path) -> None:
    """Its links lead to files of this server, also under a path of a proxy's, and none to another host."""
    async with serving(checkpoint, root_path="/small") as client:
        page = await client.get("/docs")
        links = URL.findall(page.text)
        answers = [await client.get(link) for link in links]
    assert page.headers["content-type"].startswith("text/html")
    assert "https://" not in page.text
    assert links == [f"/small/docs/{name}" for name in _names()]
    assert [(answer.status_code, answer.headers["content-type"].split(";")[0]) for answer in answers] == [
        (200, "image/png"),
        (200, "text/css"),
        (200, "text/javascript"),
        (200, "text/javascript"),
    ]


def _names() -> tuple[str, ...]:
    return ("favicon-32x32.png", "swagger-ui.css", "swagger-ui-bundle.js", "show.js")


async def test_the_pages_document_is_the_published_one(checkpoint: Path) -> None:
    """But for its version, which the page must know."""
    async with serving(checkpoint) as client:
        published, readable = [(await client.get(path)).json() for path in ("/openapi.json", "/docs/openapi.json")]
    assert published["openapi"].startswith("3.1")
    assert readable == {**published, "openapi": "3.0.3"}


@pytest.mark.parametrize("name", ["index.html", "..%2Findex.html", "%2Fetc%2Fpasswd", "swagger-ui.js"])
async def test_no_other_file_is_served(checkpoint: Path, name: str) -> None:
    """Neither of the package nor of the machine."""
    async with serving(checkpoint) as client:
        response: httpx.Response = await client.get(f"/docs/{name}")
    assert response.status_code == 404
