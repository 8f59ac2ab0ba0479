"""A load test of a running server, with a closed loop and an open loop.

`python -m benchmarks.load URL IMAGES --closed 1,8,32 --open 50,100 --seconds 10`

In the closed loop each of N clients sends its next request as soon as the one before is answered. In the open loop
requests arrive at a given rate. An image is a request's body. With `--form N` a request is a form of N images, and the
figures count requests.
"""

import argparse
import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.lib.client import Client
from benchmarks.lib.errors import exit_on_error
from benchmarks.lib.loops import (
    LoadResult,
    percentile,
    post_form,
    post_image,
    read_images_or_exit,
    run_closed_loop,
    run_open_loop,
)
from benchmarks.lib.multipart import make_forms


def format_row(result: LoadResult, objective_ms: float) -> str:
    """A row of the Markdown table."""
    ms, statuses = result.milliseconds, Counter(sample.status for sample in result.samples)
    others = ", ".join(f"{status}: {count}" for status, count in statuses.items() if status != 200)
    latencies = " | ".join(f"{percentile(ms, share):.1f}" for share in (0.5, 0.9, 0.99, 1))
    rates = f"{result.throughput():.1f} | {result.goodput(objective_ms):.1f}"
    return f"| {result.kind} | {result.load:g} | {len(result.samples)} | {rates} | {latencies} | {others or '-'} |"


def format_header(objective_ms: float) -> str:
    """The head of the Markdown table."""
    rates = f"answers/s | within {objective_ms:g} ms/s"
    names = f"loop | clients or arrivals/s | n | {rates} | p50 ms | p90 | p99 | max | others"
    return f"| {names} |\n|{' --- |' * (names.count('|') + 1)}"


def plot_latency(results: Sequence[LoadResult], objective_ms: float, file: Path) -> None:
    """Plots latency against throughput, with one line for each kind of loop and percentile."""
    from matplotlib.figure import Figure  # here because it takes a second, and few runs plot

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


def parse_numbers(text: str) -> list[float]:
    """1,2.5 as [1.0, 2.5]. Raises ValueError."""
    return [float(number) for number in text.split(",")]


async def check_server(url: str) -> None:
    """Raises OSError or ValueError if nothing that speaks HTTP listens at `url`."""
    async with Client(url) as client:
        try:
            await client.request("GET", "/health/ready")
        except (OSError, asyncio.IncompleteReadError) as error:
            raise ValueError(f"no server answers at {url}: {error}") from error


def main() -> None:
    """Prints the table row by row, then plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="http://HOST:PORT of a server of your own")
    parser.add_argument("images", type=Path, help="folder of image files")
    parser.add_argument("--closed", help="numbers of clients, comma-separated", type=parse_numbers, default=[])
    parser.add_argument("--open", help="arrivals a second, comma-separated", type=parse_numbers, default=[])
    parser.add_argument("--form", type=int, help="images of a request, as a form; by default one, as the body")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load (default: 10)")
    parser.add_argument("--objective-ms", type=float, default=100.0, help="latency objective (default: 100)")
    parser.add_argument("--plot", type=Path, help="PNG file to write")
    arguments = parser.parse_args()
    images, results = read_images_or_exit(arguments.images), list[LoadResult]()
    bodies, post = (make_forms(images, arguments.form), post_form) if arguments.form else (images, post_image)
    with exit_on_error():
        asyncio.run(check_server(arguments.url))
    asyncio.run(run_closed_loop(arguments.url, bodies, 2, 1.0, post))  # warms up connections and caches on both sides
    print(format_header(arguments.objective_ms))
    for clients in arguments.closed:
        results.append(asyncio.run(run_closed_loop(arguments.url, bodies, int(clients), arguments.seconds, post)))
        print(format_row(results[-1], arguments.objective_ms), flush=True)
    for rate in arguments.open:
        results.append(asyncio.run(run_open_loop(arguments.url, bodies, rate, arguments.seconds, post)))
        print(format_row(results[-1], arguments.objective_ms), flush=True)
    print(
        f"\nclosed-loop best: {max((r.throughput() for r in results if r.kind == 'closed'), default=0):.1f} answers/s"
    )
    if arguments.plot:
        plot_latency(results, arguments.objective_ms, arguments.plot)


if __name__ == "__main__":
    main()
