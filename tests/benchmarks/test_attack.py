"""A part of the attacks against a server in this process, which must answer all of them rightly."""

import asyncio
import io
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from app.main import create_app
from app.settings import Settings
from benchmarks.attack import find_server
from benchmarks.lib.attacks import Attack, make_attacks
from benchmarks.lib.dear_images import list_dear_images, make_sound_image
from benchmarks.lib.raw import Exchange, Target, summarise
from models.image_formats import recognise_format
from tests.fakes.connection import listening
from tests.fakes.service import ZYGOTE

pytestmark = pytest.mark.anyio
QUICK = (
    "one header of 24 MiB",
    "24 MiB of headers",
    "a target of 24 MiB",
    "24 MiB of empty lines",
    "24 MiB of trailers",
    "a chunk's extension of 24 MiB",
    "12 malformed heads",
    "10 MiB of pipelined requests",
    "an upgrade with a second request",
    "20 MiB in chunks of one byte",
    "40 MB",
    "200 that hang up in a body",
    "2,000 wrong keys",
)
ATTACKS = {attack.name: attack for attack in make_attacks(keys=True)}


@pytest.fixture(scope="module")
async def target(checkpoint: Path) -> AsyncIterator[Target]:
    settings = {"checkpoint": checkpoint, "dtype": "float32", "max_batch": 8, "api_keys": "right"}
    app = create_app(Settings.model_validate(settings), ZYGOTE)
    async with app.router.lifespan_context(app), listening(app) as port:
        await app.state.starting
        yield Target("127.0.0.1", port, "right")


@pytest.mark.parametrize("attack", [ATTACKS[name] for name in QUICK], ids=QUICK)
async def test_an_attack_gets_the_right_answer(attack: Attack, target: Target) -> None:
    """The answer is the one that the table of attacks expects, within seconds."""
    async with asyncio.timeout(60):
        result = await asyncio.to_thread(attack.run, target)
    assert re.fullmatch(attack.right, result.answer), result


async def test_a_flood_is_refused_before_it_is_sent(target: Target) -> None:
    """Of 24 MiB at most what the kernel's buffers hold, and a megabyte, is taken."""
    result = await asyncio.to_thread(ATTACKS["one header of 24 MiB"].run, target)
    assert result.sent < 12e6


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}", "127.0.0.1:{port}"])
async def test_a_server_that_is_not_there_is_named(url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = url.format(port=closed.getsockname()[1])
    with pytest.raises(ValueError, match=f"no server answers at {url}: Connection refused"):
        find_server(url, "")


def test_answers_are_summed_up() -> None:
    """By status and code; several answers of one connection by their statuses."""
    problem = b'HTTP/1.1 400 Bad Request\r\n\r\n{"code":"bad_request"}'
    exchanges = [Exchange(1, problem, True), Exchange(1, b"HTTP/1.1 200 OK\r\n\r\n" * 2, False), Exchange(1, b"", True)]
    assert summarise(exchanges) == "200 x2, 400 bad_request, closed"


def test_the_dear_images_are_images() -> None:
    """Each is recognised as what its name says, and is small to send."""
    assert Image.open(io.BytesIO(make_sound_image())).size == (32, 32)
    for name, make, _ in list_dear_images():
        if "7,900" not in name:  # these take seconds to make
            data = make()
            assert recognise_format(data) == name.split()[0].rstrip(",").upper()
            assert len(data) < 2_000_000
