"""Closed and open loops of requests, and what they measure.

In the open loop requests arrive as a Poisson process, whether or not earlier ones have been answered. Latency counts
from the moment at which a request was due, not from the moment at which it could be sent. Otherwise a server
that stalls would hide the time that its callers wait (coordinated omission).
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lib.client import Client
from benchmarks.lib.errors import exit_on_error, read_files_below
from benchmarks.lib.multipart import FORM_TYPE

LOST = "lost"
Post = Callable[[Client, bytes], Awaitable[int]]  # sends one image and gives the answer's status


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: its status, or `lost`, and the seconds from the moment it was due to its answer."""

    status: int | str
    seconds: float


@dataclass(frozen=True, slots=True)
class LoadResult:
    """All requests of one loop, and the seconds from the first one due to the last one answered."""

    kind: str
    load: float
    samples: Sequence[Sample]
    seconds: float

    @property
    def milliseconds(self) -> list[float]:
        """Latencies of the answered requests, sorted."""
        return sorted(1000 * sample.seconds for sample in self.samples if sample.status == 200)

    def throughput(self) -> float:
        """Answers a second."""
        return len(self.milliseconds) / self.seconds

    def goodput(self, objective_ms: float) -> float:
        """Answers a second within the objective."""
        return sum(ms <= objective_ms for ms in self.milliseconds) / self.seconds


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed; nan where there is none."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


async def post_image(client: Client, image: bytes) -> int:
    """Sends the image as the body and returns the status."""
    return (await client.request("POST", "/predict", image)).status


async def post_form(client: Client, body: bytes) -> int:
    """Sends a body from `make_forms` and returns the status."""
    return (await client.request("POST", "/predict", body, Content_Type=FORM_TYPE)).status


async def send_timed(client: Client, image: bytes, due: float, post: Post) -> Sample:
    """Sends one request, timed from `due`, in seconds of `time.perf_counter`."""
    try:
        status: int | str = await post(client, image)
    except (OSError, asyncio.IncompleteReadError):
        await client.close()
        status = LOST
    return Sample(status, time.perf_counter() - due)


async def run_closed_loop(
    url: str, images: Sequence[bytes], clients: int, seconds: float, post: Post = post_image
) -> LoadResult:
    """Runs N clients, each of which sends its next request as soon as the one before is answered."""
    started = time.perf_counter()

    async def run_client(number: int) -> list[Sample]:
        samples: list[Sample] = []
        async with Client(url) as client:
            while time.perf_counter() - started < seconds:
                image = images[(number + clients * len(samples)) % len(images)]
                samples.append(await send_timed(client, image, time.perf_counter(), post))
        return samples

    shares = await asyncio.gather(*(run_client(number) for number in range(clients)))
    samples = [sample for share in shares for sample in share]
    return LoadResult("closed", clients, samples, time.perf_counter() - started)


async def run_open_loop(
    url: str, images: Sequence[bytes], rate: float, seconds: float, post: Post = post_image, seed: int = 0
) -> LoadResult:
    """Sends requests at exponentially distributed intervals, on as many connections as are needed."""
    generator, free, tasks = random.Random(seed), list[Client](), list[asyncio.Task[Sample]]()

    async def arrive(image: bytes, due: float) -> Sample:
        client = free.pop() if free else Client(url)
        sample = await send_timed(client, image, due, post)
        free.append(client)
        return sample

    started = due = time.perf_counter()
    while (due := due + generator.expovariate(rate)) < started + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(arrive(images[len(tasks) % len(images)], due)))
    samples = await asyncio.gather(*tasks)
    for client in free:
        await client.close()
    return LoadResult("open", rate, samples, time.perf_counter() - started)


def read_images(folder: Path, most: int = 1000) -> list[bytes]:
    """The files below a folder, sorted by name; at most `most`, taken at even distances. Raises ValueError if none."""
    paths = read_files_below(folder)
    number = min(most, len(paths))
    return [paths[i * len(paths) // number].read_bytes() for i in range(number)]


def read_images_or_exit(folder: Path, most: int = 1000) -> list[bytes]:
    """What `read_images` returns; exits with a message if there is no file."""
    with exit_on_error():
        images = read_images(folder, most)
    return images  # noqa: RET504  mypy takes the block for one that may swallow an error
