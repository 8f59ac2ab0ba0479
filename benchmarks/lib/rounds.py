"""Comparisons of servers in interleaved rounds.

Owns the flags, the order within a round, the measurement of one server, and ratios. A slow period of the machine then
affects all that is compared, and a ratio is taken within each round.
"""

import argparse
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.lib.client import Client
from benchmarks.lib.loops import Post, post_image, run_closed_loop, send_timed
from benchmarks.lib.server import ServerProcess

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Measurement:
    """Images a second; CPU seconds an image of the server and of the clients; latencies in ms, ascending."""

    rate: float
    cpu_seconds: float
    client_cpu_seconds: float = 0.0
    milliseconds: Sequence[float] = ()


@asynccontextmanager
async def resume_server(server: ServerProcess, image: bytes, post: Post = post_image) -> AsyncIterator[None]:
    """Resumes the server for the block, with one request that is not counted, and pauses it afterwards."""
    server.resume()
    async with Client(server.url) as client:
        await send_timed(client, image, 0.0, post)
    try:
        yield
    finally:
        server.pause()


async def measure_server(
    server: ServerProcess, images: Sequence[bytes], clients: int, seconds: float, post: Post = post_image
) -> Measurement:
    """Measures a running server with a closed loop of keep-alive clients."""
    before, own_before = server.cpu_seconds(), time.process_time()
    result = await run_closed_loop(server.url, images, clients, seconds, post)
    cpu, own = server.cpu_seconds() - before, time.process_time() - own_before
    answered = max(1, len(result.milliseconds))
    return Measurement(result.throughput(), cpu / answered, own / answered, result.milliseconds)


def rotate(items: Sequence[Item], number: int) -> list[Item]:
    """The items from that number on, and then those before it, so that each round begins with another item."""
    start = number % len(items)
    return [*items[start:], *items[:start]]


def compute_rate_ratios(these: Sequence[Measurement], those: Sequence[Measurement]) -> list[float]:
    """The ratio of the rates of `these` to `those`, by round."""
    return [a.rate / b.rate for a, b in zip(these, those, strict=True) if b.rate]


def make_comparison_parser(description: str | None, images: int, turn: str, seconds: float) -> argparse.ArgumentParser:
    """A parser with the flags that comparisons share. `seconds` is the default duration of each `turn`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("images", type=Path, help=f"folder of image files, of which {images} are used")
    parser.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    parser.add_argument("--seconds", type=float, default=seconds, help=f"of each {turn} (default: {seconds:g})")
    parser.add_argument("--out", type=Path, help="Markdown file to write as well")
    return parser
