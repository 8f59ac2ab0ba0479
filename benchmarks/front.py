"""Compares HTTP/1.1 implementations under one small application: CPU time of a request, and the bounds that they keep.

`python -m benchmarks.front` runs uvicorn with the server's own protocol, with uvicorn's two protocols, and again with
the own one as the control. `--hypercorn PYTHON` adds Hypercorn, by the Python of an environment that has hypercorn and
uvloop. In interleaved rounds clients send requests with a body of 1,000 bytes. What is measured is the CPU time, user
and system, of the server's process. Then each server is attacked with a part of `benchmarks.attack`.
"""

import argparse
import asyncio
import statistics
import sys
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

from benchmarks.lib.attacks import make_attacks
from benchmarks.lib.client import Client
from benchmarks.lib.errors import exit_on_error
from benchmarks.lib.raw import Target
from benchmarks.lib.report import describe_machine, format_spread, format_table
from benchmarks.lib.rounds import rotate
from benchmarks.lib.server import ServerProcess, start_server

OWN, CONTROL = "own protocol", "own protocol, again"
ATTACKS = (
    "one header of 24 MiB",
    "slow heads, 100 at once",
    "12 malformed heads",
    "10 MiB of pipelined requests",
    "an upgrade with a second request",
)
BODY = bytes(1000)


def list_commands(hypercorn: str | None) -> dict[str, tuple[str, ...]]:
    """By name, the command that serves the application."""
    front = (sys.executable, "-m", "benchmarks.lib.front_app")
    commands: dict[str, tuple[str, ...]] = {
        OWN: (*front, "bounded"),
        "uvicorn, httptools": (*front, "httptools"),
        "uvicorn, h11": (*front, "h11"),
        CONTROL: (*front, "bounded"),
    }
    if hypercorn:
        options = ("--bind", "127.0.0.1:0", "--worker-class", "uvloop")
        commands["hypercorn"] = (hypercorn, "-m", "hypercorn", "benchmarks.lib.front_app:app", *options)
    return commands


async def measure_cpu(server: ServerProcess, requests: int, clients: int) -> float:
    """CPU microseconds of the server's process for each request."""

    async def ask() -> None:
        async with Client(server.url) as client:
            for _ in range(requests // clients):
                await client.request("POST", "/predict", BODY)

    server.resume()
    before = server.cpu_seconds()
    await asyncio.gather(*(ask() for _ in range(clients)))
    taken = server.cpu_seconds() - before
    server.pause()
    return 1e6 * taken / (requests // clients * clients)


async def compare(hypercorn: str | None, rounds: int, requests: int, clients: int) -> str:
    """The two tables. Raises RuntimeError for a server that does not start."""
    async with AsyncExitStack() as stack:
        servers = {
            name: await stack.enter_async_context(start_server(*command))
            for name, command in list_commands(hypercorn).items()
        }
        taken: dict[str, list[float]] = {name: [] for name in servers}
        for number in range(rounds + 1):
            for name in rotate(list(servers), number):
                microseconds = await measure_cpu(servers[name], requests, clients)
                if number:  # the first round warms up
                    taken[name].append(microseconds)
        rows: list[tuple[str, ...]] = [("server", "CPU us a request", "own / this", *ATTACKS)]
        for name, server in servers.items():
            ratios = [a / b for a, b in zip(taken[OWN], taken[name], strict=True)]
            server.resume()
            answers = await asyncio.to_thread(attack, server.url) if name != CONTROL else [""] * len(ATTACKS)
            rows.append((name, f"{statistics.median(taken[name]):.1f}", format_spread(ratios), *answers))
            server.pause()
    machine = describe_machine("uvicorn", "httptools", "h11", "uvloop")
    return f"{format_table(*rows)}\n\nn = {rounds} rounds of {requests} requests, {clients} clients; {machine}"


def attack(url: str) -> list[str]:
    """The answers to ATTACKS."""
    parts = urlsplit(url)
    target = Target(parts.hostname or "127.0.0.1", parts.port or 80)
    attacks = {attack.name: attack for attack in make_attacks(keys=False)}
    return [attacks[name].run(target).answer for name in ATTACKS]


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hypercorn", metavar="PYTHON", help="of an environment with hypercorn and uvloop")
    parser.add_argument("--rounds", type=int, default=7, help="(default: 7)")
    parser.add_argument("--requests", type=int, default=3000, help="of a round (default: 3000)")
    parser.add_argument("--clients", type=int, default=8, help="at once (default: 8)")
    arguments = parser.parse_args()
    with exit_on_error():
        print(asyncio.run(compare(arguments.hypercorn, arguments.rounds, arguments.requests, arguments.clients)))


if __name__ == "__main__":
    main()
