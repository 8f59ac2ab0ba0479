"""The page's files, as the server answers them."""

import re
from pathlib import Path

import httpx
import pytest

from app.http.middleware import POLICY
from app.http.static import has_copy
from app.http.web import FOLDER
from tests.fakes.pages import Page
from tests.fakes.service import serving

pytestmark = pytest.mark.anyio
IMPORT = re.compile(r'\bfrom "(\./[^"]+)"')
OTHER_HOST = re.compile(r"(?:https?:)?//[a-z0-9-]+\.[a-z]")
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())


def links_of(html: str) -> list[str]:
    """What the page loads or leads to."""
    return [link for _, tag in Page(html).tags for name in ("src", "href") if (link := tag.get(name))]


@pytest.mark.parametrize("prefix", ["", "/models/small"])
async def test_every_file_of_the_page_is_served(checkpoint: Path, prefix: str) -> None:
    """What the page loads, and what its scripts import, answers with its type to callers without a key."""
    types = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    async with serving(checkpoint, root_path=prefix, api_keys="secret") as client:
        page = await client.get(f"{prefix}/")
        links = [link.removeprefix(".") for link in links_of(page.text)]
        loaded = [link for link in links if link.startswith(f"{prefix}/web/")]
        scripts = {link for link in loaded if link.endswith(".js")}
        while new := {f"{prefix}/web/{name}" for link in scripts for name in imports_of(link)} - scripts:
            scripts |= new
        answers = {link: await client.get(link) for link in {*loaded, *scripts}}
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert f"{prefix}/docs" in links
    assert {Path(link).name for link in answers} == {path.name for path in FOLDER.glob("*.*")} - {"index.html"}
    for link, answer in answers.items():
        assert answer.status_code == 200
        assert answer.headers["content-type"].partition(";")[0] == types[Path(link).suffix]
        assert answer.headers["x-content-type-options"] == "nosniff"


def imports_of(link: str) -> list[str]:
    return [found.removeprefix("./") for found in IMPORT.findall((FOLDER / Path(link).name).read_text("utf-8"))]


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_pages_have_a_strict_policy(checkpoint: Path, path: str) -> None:
    """Scripts and styles come from files of the server alone, and no other page may frame it."""
    async with serving(checkpoint) as client:
        response = await client.get(path)
    given = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
    assert given == POLICY
    assert given["default-src"] == given["frame-ancestors"] == given["form-action"] == given["base-uri"] == "'none'"
    assert given["script-src"] == given["style-src"] == given["connect-src"] == "'self'"
    page = Page(response.text)
    assert all("src" in tag for tag in page.attributes("script"))
    assert not page.attributes("style")
    assert not [name for _, tag in page.tags for name in tag if name == "style" or name.startswith("on")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_names_another_host(path: Path) -> None:
    """Only namespaces, which are never fetched, look like addresses."""
    text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
    assert OTHER_HOST.findall(text) == []


@pytest.mark.parametrize("path", ["/", "/web/main.js", "/docs", "/docs/swagger-ui.css"])
async def test_a_copy_is_asked_for_again(checkpoint: Path, path: str) -> None:
    """A browser that has the newest file gets 304 and no body; another tag gets the file."""
    async with serving(checkpoint) as client:
        first = await client.get(path)
        tag = first.headers["etag"]
        same, weak, other = [
            await client.get(path, headers={"If-None-Match": value}) for value in (tag, f'"a", W/{tag}', '"a"')
        ]
        head = await client.head(path)
    assert first.headers["cache-control"] == "no-cache"
    assert [(answer.status_code, answer.content) for answer in (same, weak)] == [(304, b"")] * 2
    assert same.headers["etag"] == tag
    assert (other.status_code, other.content) == (200, first.content)
    assert (head.status_code, head.headers["content-type"]) == (200, first.headers["content-type"])


def test_a_star_means_any_copy() -> None:
    """RFC 9110, section 13.1.2; an absent header means none."""
    assert has_copy("*", '"a"')
    assert not has_copy("", '"a"')


@pytest.mark.parametrize("name", ["index.html", "docs", "..%2Fmain.py", "%2Fetc%2Fpasswd", "main.js%00"])
async def test_no_other_file_is_served(checkpoint: Path, name: str) -> None:
    """Neither of the package nor of the machine."""
    async with serving(checkpoint) as client:
        response: httpx.Response = await client.get(f"/web/{name}")
    assert response.status_code == 404
