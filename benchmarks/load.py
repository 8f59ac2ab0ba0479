"""A load test: closed loop (N clients, each asking again at once) and open loop (arrivals at a given rate).

`python -m benchmarks.load URL IMAGES --closed 1,8,32 --open 50,100 --seconds 10`

An image is a request's body; with `--form N` a request is a form of N of them, and what is counted are requests.
In the open loop requests arrive as a Poisson process whether or not earlier ones have been answered, and
latency counts from the moment at which a request was due, not from when it could be sent: a server that
stalls cannot look good by keeping its callers waiting (coordinated omission).
"""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lib.client import Client
from benchmarks.lib.forms import FORM_TYPE, form

LOST = "lost"
Post = Callable[[Client, bytes], Awaitable[int]]  # sends one image and gives the answer's status


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: how it ended (a status, or `lost`) and its seconds from when it was due."""

    status: int | str
    seconds: float


@dataclass(frozen=True, slots=True)
class Result:
    """All requests of one load, and the seconds from the first one due to the last one answered."""

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

    def row(self, objective_ms: float) -> str:
        """A row of the Markdown table."""
        ms, statuses = self.milliseconds, Counter(sample.status for sample in self.samples)
        others = ", ".join(f"{status}: {count}" for status, count in statuses.items() if status != 200)
        latencies = " | ".join(f"{percentile(ms, share):.1f}" for share in (0.5, 0.9, 0.99, 1))
        rates = f"{self.throughput():.1f} | {self.goodput(objective_ms):.1f}"
        return f"| {self.kind} | {self.load:g} | {len(self.samples)} | {rates} | {latencies} | {others or '-'} |"


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed; nan where there is none."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def header(objective_ms: float) -> str:
    """The head of the Markdown table."""
    rates = f"answers/s | within {objective_ms:g} ms/s"
    names = f"loop | clients or arrivals/s | n | {rates} | p50 ms | p90 | p99 | max | others"
    return f"| {names} |\n|{' --- |' * (names.count('|') + 1)}"


async def post_image(client: Client, image: bytes) -> int:
    """The image is the body."""
    return (await client.request("POST", "/predict", image)).status


async def post_form(client: Client, body: bytes) -> int:
    """The body is what `forms` made."""
    return (await client.request("POST", "/predict", body, Content_Type=FORM_TYPE)).status


def forms(images: Sequence[bytes], size: int) -> list[bytes]:
    """As many bodies as there are images, each with the next `size` of them."""
    endless = list(images) * (size // len(images) + 2)
    return [form(endless[start : start + size]) for start in range(len(images))]


async def ask(client: Client, image: bytes, due: float, post: Post) -> Sample:
    """One request, timed from `due` in `time.perf_counter` seconds."""
    try:
        status: int | str = await post(client, image)
    except (OSError, asyncio.IncompleteReadError):
        await client.close()
        status = LOST
    return Sample(status, time.perf_counter() - due)


async def closed_loop(
    url: str, images: Sequence[bytes], clients: int, seconds: float, post: Post = post_image
) -> Result:
    """Each client asks again as soon as it is answered."""
    started = time.perf_counter()

    async def run(number: int) -> list[Sample]:
        samples: list[Sample] = []
        async with Client(url) as client:
            while time.perf_counter() - started < seconds:
                image = images[(number + clients * len(samples)) % len(images)]
                samples.append(await ask(client, image, time.perf_counter(), post))
        return samples

    shares = await asyncio.gather(*(run(number) for number in range(clients)))
    samples = [sample for share in shares for sample in share]
    return Result("closed", clients, samples, time.perf_counter() - started)


async def open_loop(
    url: str, images: Sequence[bytes], rate: float, seconds: float, post: Post = post_image, seed: int = 0
) -> Result:
    """Arrivals with exponential gaps, on as many connections as it takes."""
    generator, free, tasks = random.Random(seed), list[Client](), list[asyncio.Task[Sample]]()

    async def arrive(image: bytes, due: float) -> Sample:
        client = free.pop() if free else Client(url)
        sample = await ask(client, image, due, post)
        free.append(client)
        return sample

    started = due = time.perf_counter()
    while (due := due + generator.expovariate(rate)) < started + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(arrive(images[len(tasks) % len(images)], due)))
    samples = await asyncio.gather(*tasks)
    for client in free:
        await client.close()
    return Result("open", rate, samples, time.perf_counter() - started)


def read_images(folder: Path, most: int = 1000) -> list[bytes]:
    """The files below a folder, in the order of their names; of more than `most`, as many at even distances."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    number = min(most, len(paths))
    return [paths[i * len(paths) // number].read_bytes() for i in range(number)]


def images_below(folder: Path, most: int = 1000) -> list[bytes]:
    """What `read_images` gives; ends the command where that is nothing."""
    images = read_images(folder, most)
    if not images:
        sys.exit(f"error: there is no file below {folder}")
    return images


def plot(results: Sequence[Result], objective_ms: float, file: Path) -> None:
    """Latency against throughput, one line a kind of loop."""
    from matplotlib.figure import Figure

    axes = (figure := Figure(figsize=(7, 4.5), layout="constrained")).subplots()
    for kind in ("closed", "open"):
        points = [result for result in results if result.kind == kind and result.milliseconds]
        for name, share, style in (("p50", 0.5, "o-"), ("p99", 0.99, "s--")):
            if points:
                values = [result.milliseconds[int(share * (len(result.milliseconds) - 1))] for result in points]
                axes.plot([result.throughput() for result in points], values, style, label=f"{kind} loop, {name}")
    axes.axhline(objective_ms, color="grey", linewidth=0.8, label=f"objective, {objective_ms:g} ms")
    axes.set(xlabel="answers a second", ylabel="latency in ms", yscale="log")
    axes.legend()
    figure.savefig(file, dpi=120)


def numbers(text: str) -> list[float]:
    """1,2.5 as [1.0, 2.5]. Raises ValueError."""
    return [float(number) for number in text.split(",")]


def main() -> None:
    """Prints the table row by row, then plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="http://HOST:PORT of a server of your own")
    parser.add_argument("images", type=Path, help="folder of image files")
    parser.add_argument("--closed", help="numbers of clients, comma-separated", type=numbers, default=[])
    parser.add_argument("--open", help="arrivals a second, comma-separated", type=numbers, default=[])
    parser.add_argument("--form", type=int, help="images of a request, as a form; by default one, as the body")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load (default: 10)")
    parser.add_argument("--objective-ms", type=float, default=100.0, help="latency objective (default: 100)")
    parser.add_argument("--plot", type=Path, help="PNG file to write")
    arguments = parser.parse_args()
    images, results = images_below(arguments.images), list[Result]()
    bodies, post = (forms(images, arguments.form), post_form) if arguments.form else (images, post_image)
    asyncio.run(closed_loop(arguments.url, bodies, 2, 1.0, post))  # warms up connections and caches on both sides
    print(header(arguments.objective_ms))
    for clients in arguments.closed:
        results.append(asyncio.run(closed_loop(arguments.url, bodies, int(clients), arguments.seconds, post)))
        print(results[-1].row(arguments.objective_ms), flush=True)
    for rate in arguments.open:
        results.append(asyncio.run(open_loop(arguments.url, bodies, rate, arguments.seconds, post)))
        print(results[-1].row(arguments.objective_ms), flush=True)
    print(
        f"\nclosed-loop best: {max((r.throughput() for r in results if r.kind == 'closed'), default=0):.1f} answers/s"
    )
    if arguments.plot:
        plot(results, arguments.objective_ms, arguments.plot)


if __name__ == "__main__":
    main()
