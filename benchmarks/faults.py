"""Tests the service under overload, clients that hang up, SIGTERM, bad bodies, many requests and reloads.

`python -m benchmarks.faults CHECKPOINT IMAGES` starts servers of its own on the loopback address, runs six scenarios
with the image files of a folder, and prints what happened. Nothing is retried. A request without an answer counts as
lost.
"""

import argparse
import asyncio
import os
import random
import shutil
import signal
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from benchmarks.lib.bad_bodies import make_bad_bodies
from benchmarks.lib.client import Client, Reply
from benchmarks.lib.errors import exit_on_error
from benchmarks.lib.loops import LOST, percentile, read_images_or_exit
from benchmarks.lib.server import ServerProcess, start_vggserve

QUEUE = 64
Images = Sequence[bytes]


async def post(url: str, image: bytes) -> Reply | None:
    """Sends one request on a new connection. Returns None if no complete answer came."""
    async with Client(url) as client:
        try:
            return await client.request("POST", "/predict", image)
        except (OSError, asyncio.IncompleteReadError):
            return None


async def probe_liveness(url: str, stop: asyncio.Event) -> list[float]:
    """Milliseconds that /health/live takes, requested every 50 ms until `stop`."""
    times = []
    async with Client(url) as client:
        while not stop.is_set():
            times.append(1000 * (await client.request("GET", "/health/live")).seconds)
            await asyncio.sleep(0.05)
    return times


def count_statuses(replies: Sequence[Reply | None]) -> str:
    """How often each status came, as text."""
    counts = Counter(reply.status if reply else LOST for reply in replies)
    return ", ".join(f"{status}: {count}" for status, count in sorted(counts.items(), key=str))


async def read_dropped(url: str) -> str:
    async with Client(url) as client:
        text = (await client.request("GET", "/metrics")).body.decode()
    return ", ".join(line.removeprefix("vgg_") for line in text.splitlines() if line.startswith("vgg_dropped_total"))


async def overload(checkpoint: Path, images: Images) -> None:
    """Twenty times as many clients at once as the queue holds, with liveness probes at the same time."""
    async with start_vggserve(checkpoint, "--queue-size", str(QUEUE)) as server:
        stop = asyncio.Event()
        probes = asyncio.create_task(probe_liveness(server.url, stop))
        clients = 20 * QUEUE
        replies = await asyncio.gather(*(post(server.url, images[i % len(images)]) for i in range(clients)))
        stop.set()
        accepted = [1000 * reply.seconds for reply in replies if reply and reply.status == 200]
        retries = Counter(reply.headers["retry-after"] for reply in replies if reply and reply.status == 429)
        live = await probes
    print(f"clients {clients}, queue {QUEUE}; statuses {count_statuses(replies)}; Retry-After {dict(retries)}")
    print(f"accepted: p50 {statistics.median(accepted):.0f} ms, p99 {percentile(accepted, 0.99):.0f} ms")
    print(f"probes meanwhile: n {len(live)}, p50 {statistics.median(live):.1f} ms, max {max(live):.1f} ms")


async def hang_up(checkpoint: Path, images: Images) -> None:
    """A thousand clients, a third of which hang up at a random moment within two seconds."""
    generator = random.Random(0)
    async with start_vggserve(checkpoint, "--queue-size", "1000") as server:

        async def send_and_leave(image: bytes, after: float) -> None:
            async with Client(server.url) as client:
                await client.send("POST", "/predict", image)
                await asyncio.sleep(after)

        leaving = [
            asyncio.create_task(send_and_leave(images[i % len(images)], generator.uniform(0, 2))) for i in range(333)
        ]
        replies = await asyncio.gather(*(post(server.url, images[i % len(images)]) for i in range(667)))
        await asyncio.gather(*leaving)
        stayed = count_statuses(replies)
        print(f"hung up 333, stayed 667; statuses of those who stayed {stayed}; {await read_dropped(server.url)}")


async def stop(checkpoint: Path, images: Images) -> None:
    """SIGTERM under twenty times as many clients as the queue holds, with a short drain delay."""
    async with start_vggserve(checkpoint, "--queue-size", str(QUEUE), "--drain-delay", "0.5") as server:
        clients = 20 * QUEUE
        asking = [asyncio.create_task(post(server.url, images[i % len(images)])) for i in range(clients)]
        await asyncio.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        replies = await asyncio.gather(*asking)
        status = await server.process.wait()
        answered = server.log.read_text().count("route=/predict")
    got = sum(reply is not None for reply in replies)
    print(f"clients {clients}; statuses {count_statuses(replies)}; exit status {status}")
    print(f"requests that the server began {answered}, answers that clients got {got}")


async def bad_bodies(checkpoint: Path, images: Images) -> None:
    """Each bad body on its own, with a sound image after it."""
    async with start_vggserve(checkpoint) as server:
        await post(server.url, images[0])
        before = server.resident_megabytes()
        print(f"{'what':<44} {'bytes':>10} {'status':>6} {'code':<22} {'ms':>7} {'RSS MB':>7}")
        for name, body, media_type in make_bad_bodies():
            async with Client(server.url) as client:
                reply = await client.request("POST", "/predict", body, Content_Type=media_type)
            code = reply.body.split(b'"code":"')[1].split(b'"')[0].decode() if reply.status != 200 else "-"
            after = await post(server.url, images[0])
            assert after is not None
            assert after.status == 200
            row = f"{name:<44} {len(body):>10} {reply.status:>6} {code:<22} {1000 * reply.seconds:>7.0f}"
            print(f"{row} {server.resident_megabytes():>7.0f}")
        peak, end = server.peak_megabytes(), server.resident_megabytes()
    print(f"resident memory before {before:.0f} MB, at the end {end:.0f} MB, at its peak {peak:.0f} MB")


async def many_requests(checkpoint: Path, images: Images) -> None:
    """Twenty thousand requests in a row, eight at a time."""
    total, at_once = 20_000, 8
    async with start_vggserve(checkpoint) as server:
        done, memory = 0, [server.resident_megabytes()]

        async def run_client() -> list[Reply]:
            nonlocal done
            replies = []
            async with Client(server.url) as client:
                for i in range(total // at_once):
                    replies.append(await client.request("POST", "/predict", images[i % len(images)]))
                    done += 1
                    if done in (200, total // 2):
                        memory.append(server.resident_megabytes())
            return replies

        started = time.perf_counter()
        replies = [reply for part in await asyncio.gather(*(run_client() for _ in range(at_once))) for reply in part]
        seconds = time.perf_counter() - started
        memory.append(server.resident_megabytes())
    print(f"statuses {count_statuses(replies)} in {seconds:.0f} s")
    print(f"resident MB when ready, after 200, at the middle, at the end: {', '.join(f'{mb:.0f}' for mb in memory)}")


async def reload(checkpoint: Path, images: Images) -> None:
    """Five good reloads and a refused one under sixteen clients without a pause."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / checkpoint.name
        shutil.copy(checkpoint, path)
        async with start_vggserve(path, "--api-keys", "key") as server:
            replies, key = await _reload_under_load(server, path, images)
    print(f"statuses of {len(replies)} requests during the reloads: {count_statuses(replies)}; reloads: {key}")


async def _reload_under_load(server: ServerProcess, path: Path, images: Images) -> tuple[list[Reply], list[int]]:
    ended, replies, reloads = asyncio.Event(), [], []

    async def run_client() -> None:
        async with Client(server.url) as client:
            while not ended.is_set():
                replies.append(await client.request("POST", "/predict", random.choice(images), X_API_Key="key"))

    asking = [asyncio.create_task(run_client()) for _ in range(16)]
    async with Client(server.url) as admin:
        for damage in (False,) * 5 + (True,):
            if damage:
                os.truncate(path, 1000)
            reloads.append((await admin.request("POST", "/admin/reload", X_API_Key="key")).status)
    ended.set()
    await asyncio.gather(*asking)
    return replies, reloads


Scenario = Callable[[Path, Images], Awaitable[None]]
SCENARIOS: tuple[Scenario, ...] = (overload, hang_up, stop, bad_bodies, many_requests, reload)


def main() -> None:
    """Runs all scenarios, or those named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("images", type=Path, help="folder of image files")
    parser.add_argument("scenarios", nargs="*", help=", ".join(scenario.__name__ for scenario in SCENARIOS))
    arguments = parser.parse_args()
    images = read_images_or_exit(arguments.images, 500)
    for scenario in SCENARIOS:
        if not arguments.scenarios or scenario.__name__ in arguments.scenarios:
            print(f"\n## {scenario.__name__}: {scenario.__doc__}")
            with exit_on_error():
                asyncio.run(scenario(arguments.checkpoint, images))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
