"""Interleaved rounds: what the comparisons share.

Owns the flags, the order of the visits, what one visit to a server measures, ratios, and the line that names the
machine. A slow minute of the machine then falls on all that is compared, and a ratio is taken within
each round.
"""

import argparse
import asyncio
import os
import platform
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.lib.client import Client
from benchmarks.lib.server import ServerProcess
from benchmarks.load import Post, ask, closed_loop, post_image

Item = TypeVar("Item")
OMP_THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True, slots=True)
class Visit:
    """Images a second; CPU seconds an image, of what is measured and of the clients; latencies, ascending."""

    rate: float
    cpu_seconds: float
    client_cpu_seconds: float = 0.0
    milliseconds: Sequence[float] = ()


@asynccontextmanager
async def awake(server: ServerProcess, image: bytes, post: Post = post_image) -> AsyncIterator[None]:
    """The server runs during the block, from one answer that is not counted on, and is paused after it."""
    server.resume()
    async with Client(server.url) as client:
        await ask(client, image, 0.0, post)
    try:
        yield
    finally:
        server.pause()


async def visit(
    server: ServerProcess, images: Sequence[bytes], clients: int, seconds: float, post: Post = post_image
) -> Visit:
    """A closed loop of keep-alive clients on a server that is awake."""
    before, own_before = server.cpu_seconds(), time.process_time()
    result = await closed_loop(server.url, images, clients, seconds, post)
    cpu, own = server.cpu_seconds() - before, time.process_time() - own_before
    answered = max(1, len(result.milliseconds))
    return Visit(result.throughput(), cpu / answered, own / answered, result.milliseconds)


def rotated(items: Sequence[Item], number: int) -> list[Item]:
    """The items from that number on, so that each round begins with another one."""
    start = number % len(items)
    return [*items[start:], *items[:start]]


def median(values: Sequence[float]) -> float:
    """nan where there is none."""
    return statistics.median(values) if values else float("nan")


def ratios(these: Sequence[Visit], those: Sequence[Visit]) -> list[float]:
    """How many times as fast these were as those, round by round."""
    return [a.rate / b.rate for a, b in zip(these, those, strict=True) if b.rate]


def spread(values: Sequence[float]) -> str:
    """The median and both ends."""
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def machine(*packages: str) -> str:
    """The processor, its cores, and the versions that matter."""
    cpu = Path("/proc/cpuinfo").read_text().partition("model name")[2].partition(":")[2].partition("\n")[0].strip()
    cores = len(os.sched_getaffinity(0))
    limit = f", {OMP_THREADS}={os.environ[OMP_THREADS]}" if OMP_THREADS in os.environ else ""
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    return f"{cpu or platform.machine()}, {cores} cores{limit}; Python {platform.python_version()}, {versions}"


def comparison(description: str | None, images: int, turn: str, seconds: float) -> argparse.ArgumentParser:
    """A parser with the flags that comparisons in rounds share; `seconds` of each `turn` by default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("images", type=Path, help=f"folder of image files, of which {images} are used")
    parser.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    parser.add_argument("--seconds", type=float, default=seconds, help=f"of each {turn} (default: {seconds:g})")
    parser.add_argument("--out", type=Path, help="Markdown file to write as well")
    return parser


def run(measurement: Coroutine[Any, Any, str], out: Path | None) -> None:
    """Prints the report, and writes it to `out`. SIGTERM ends it as Ctrl-C does: with it end the servers."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        report = asyncio.run(measurement)
    except KeyboardInterrupt:
        sys.exit(130)
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(report)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(report + "\n")
