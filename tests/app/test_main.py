"""The application as a whole: cross-origin requests, a path in front of it, and its version."""

import tomllib
from pathlib import Path

import httpx
import pytest

from app.main import VERSION
from tests.fakes.images import encoded, random_image
from tests.fakes.service import serving

pytestmark = pytest.mark.anyio
IMAGE = encoded(random_image())
ORIGIN = {"Origin": "https://a.example"}
PREFLIGHT = ORIGIN | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}


def test_the_version_is_the_projects() -> None:
    """The image has no pyproject.toml to read it from."""
    pyproject = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    assert pyproject["project"]["version"] == VERSION


async def test_pages_of_other_origins_may_not_call_by_default(checkpoint: Path) -> None:
    """Without the setting no answer has a header of CORS."""
    async with serving(checkpoint) as client:
        response = await client.post("/predict", content=IMAGE, headers=ORIGIN)
        preflight = await client.options("/predict", headers=PREFLIGHT)
    assert "access-control-allow-origin" not in response.headers
    assert preflight.status_code == 405


def allowed(response: httpx.Response) -> str | None:
    origin: str | None = response.headers.get("access-control-allow-origin")
    return origin


async def test_pages_of_named_origins_may_call(checkpoint: Path) -> None:
    """Answers, errors and preflights say so, and have a request id; other origins get no header."""
    async with serving(checkpoint, cors_origins="https://a.example, https://b.example", api_keys="secret") as client:
        key = {"X-API-Key": "secret"}
        responses = [
            await client.post("/predict", content=IMAGE, headers=ORIGIN | key),
            await client.post("/predict", content=b"hello", headers=ORIGIN | key),
            await client.post("/v2/models/nope/infer", headers=ORIGIN),
            await client.get("/nope", headers=ORIGIN),
            await client.options("/predict", headers=PREFLIGHT),
        ]
        other = await client.post("/predict", content=IMAGE, headers=key | {"Origin": "https://c.example"})
    assert [response.status_code for response in responses] == [200, 415, 401, 404, 200]
    assert [allowed(response) for response in responses] == ["https://a.example"] * 5
    assert all(response.headers["x-request-id"] for response in responses)
    assert "X-Model-Version" in responses[0].headers["access-control-expose-headers"]
    assert allowed(other) is None


async def test_all_origins_may_be_allowed(checkpoint: Path) -> None:
    """With an asterisk."""
    async with serving(checkpoint, cors_origins="*") as client:
        assert allowed(await client.get("/health/ready", headers=ORIGIN)) == "*"


@pytest.mark.parametrize("prefix", ["", "/models/small"])
async def test_a_proxy_may_show_the_server_under_a_path(checkpoint: Path, prefix: str) -> None:
    """Whether or not it removes the path from its requests."""
    async with serving(checkpoint, root_path="/models/small") as client:
        assert (await client.post(f"{prefix}/predict", content=IMAGE)).status_code == 200
        assert (await client.post(prefix or "/", content=IMAGE)).status_code == 200
        assert list((await client.get(f"{prefix}/v2/nope")).json()) == ["error"]
        assert (await client.get(f"{prefix}/health/ready")).status_code == 200
        assert (await client.get("/modelsmall/predict")).status_code == 404
        docs = await client.get(f"{prefix}/docs")
        assert "/models/small/docs/show.js" in docs.text
        document = (await client.get(f"{prefix}/openapi.json")).json()
    assert document["servers"] == [{"url": "/models/small"}]
