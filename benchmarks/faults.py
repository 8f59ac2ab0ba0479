"""What the service does when it is flooded, abandoned, stopped, bombed, worn and reloaded.

`python -m benchmarks.faults CHECKPOINT IMAGES` starts servers of its own on the loopback address, plays
six scenes with the image files of a folder, and prints what happened. Nothing is retried: a request
that gets no answer at all is counted as lost.
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
from benchmarks.lib.loops import LOST, percentile
from benchmarks.lib.server import ServerProcess, start_vggserve

QUEUE = 64
Images = Sequence[bytes]


async def post(url: str, image: bytes) -> Reply | None:
    """One request on a connection of its own; None if no whole answer came."""
    async with Client(url) as client:
        try:
            return await client.request("POST", "/predict", image)
        except (OSError, asyncio.IncompleteReadError):
            return None


async def probing(url: str, stop: asyncio.Event) -> list[float]:
    """Milliseconds that /health/live takes, asked every 50 ms until `stop`."""
    times = []
    async with Client(url) as client:
        while not stop.is_set():
            times.append(1000 * (await client.request("GET", "/health/live")).seconds)
            await asyncio.sleep(0.05)
    return times


def statuses(replies: Sequence[Reply | None]) -> str:
    """How often each status came."""
    counts = Counter(reply.status if reply else LOST for reply in replies)
    return ", ".join(f"{status}: {count}" for status, count in sorted(counts.items(), key=str))


async def dropped(url: str) -> str:
    async with Client(url) as client:
        text = (await client.request("GET", "/metrics")).body.decode()
    return ", ".join(line.removeprefix("vgg_") for line in text.splitlines() if line.startswith("vgg_dropped_total"))


async def flood(checkpoint: Path, images: Images) -> None:
    """Twenty times as many clients at once as the queue holds, while probes go on."""
    async with start_vggserve(checkpoint, "--queue-size", str(QUEUE)) as server:
        stop = asyncio.Event()
        probes = asyncio.create_task(probing(server.url, stop))
        clients = 20 * QUEUE
        replies = await asyncio.gather(*(post(server.url, images[i % len(images)]) for i in range(clients)))
        stop.set()
        accepted = [1000 * reply.seconds for reply in replies if reply and reply.status == 200]
        retries = Counter(reply.headers["retry-after"] for reply in replies if reply and reply.status == 429)
        live = await probes
    print(f"clients {clients}, queue {QUEUE}; statuses {statuses(replies)}; Retry-After {dict(retries)}")
    print(f"accepted: p50 {statistics.median(accepted):.0f} ms, p99 {percentile(accepted, 0.99):.0f} ms")
    print(f"probes meanwhile: n {len(live)}, p50 {statistics.median(live):.1f} ms, max {max(live):.1f} ms")


async def abandon(checkpoint: Path, images: Images) -> None:
    """A thousand clients, of whom every third hangs up at a random moment of the next two seconds."""
    generator = random.Random(0)
    async with start_vggserve(checkpoint, "--queue-size", "1000") as server:

        async def hang_up(image: bytes, after: float) -> None:
            async with Client(server.url) as client:
                await client.send("POST", "/predict", image)
                await asyncio.sleep(after)

        leaving = [asyncio.create_task(hang_up(images[i % len(images)], generator.uniform(0, 2))) for i in range(333)]
        replies = await asyncio.gather(*(post(server.url, images[i % len(images)]) for i in range(667)))
        await asyncio.gather(*leaving)
        print(f"hung up 333, stayed 667; statuses of those who stayed {statuses(replies)}; {await dropped(server.url)}")


async def stop(checkpoint: Path, images: Images) -> None:
    """SIGTERM while 20 times the queue's size asks, with a short drain delay."""
    async with start_vggserve(checkpoint, "--queue-size", str(QUEUE), "--drain-delay", "0.5") as server:
        clients = 20 * QUEUE
        asking = [asyncio.create_task(post(server.url, images[i % len(images)])) for i in range(clients)]
        await asyncio.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        replies = await asyncio.gather(*asking)
        status = await server.process.wait()
        answered = server.log.read_text().count("route=/predict")
    got = sum(reply is not None for reply in replies)
    print(f"clients {clients}; statuses {statuses(replies)}; exit status {status}")
    print(f"requests that the server began {answered}, answers that clients got {got}")


async def bomb(checkpoint: Path, images: Images) -> None:
    """Each bomb on its own, with a sound image after it."""
    async with start_vggserve(checkpoint) as server:
        await post(server.url, images[0])
        before = server.resident_megabytes()
        print(f"{'what':<44} {'bytes':>10} {'status':>6} {'code':<22} {'ms':>7} {'RSS MB':>7}")
        for name, body, media_type in make_bad_bodies():
            async with Client(server.url) as client:
                reply = await client.request("POST", "/predict", body, Content_Type=media_type)
            code = reply.body.split(b'"code":"')[1].split(b'"')[0].decode() if reply.status != 200 else "answered"
            after = await post(server.url, images[0])
            assert after is not None
            assert after.status == 200
            row = f"{name:<44} {len(body):>10} {reply.status:>6} {code:<22} {1000 * reply.seconds:>7.0f}"
            print(f"{row} {server.resident_megabytes():>7.0f}")
        peak, end = server.peak_megabytes(), server.resident_megabytes()
    print(f"resident memory before {before:.0f} MB, at the end {end:.0f} MB, at its peak {peak:.0f} MB")


async def wear(checkpoint: Path, images: Images) -> None:
    """Twenty thousand requests in a row, eight at a time."""
    total, at_once = 20_000, 8
    async with start_vggserve(checkpoint) as server:
        done, memory = 0, [server.resident_megabytes()]

        async def ask() -> list[Reply]:
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
        replies = [reply for share in await asyncio.gather(*(ask() for _ in range(at_once))) for reply in share]
        seconds = time.perf_counter() - started
        memory.append(server.resident_megabytes())
    print(f"statuses {statuses(replies)} in {seconds:.0f} s")
    print(f"resident MB when ready, after 200, at the middle, at the end: {', '.join(f'{mb:.0f}' for mb in memory)}")


async def reload(checkpoint: Path, images: Images) -> None:
    """Five good reloads and one refused one while sixteen clients ask without pause."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / checkpoint.name
        shutil.copy(checkpoint, path)
        async with start_vggserve(path, "--api-keys", "key") as server:
            replies, key = await _reload_under_load(server, path, images)
    print(f"statuses of {len(replies)} requests during the reloads: {statuses(replies)}; reloads: {key}")


async def _reload_under_load(server: ServerProcess, path: Path, images: Images) -> tuple[list[Reply], list[int]]:
    ended, replies, reloads = asyncio.Event(), [], []

    async def ask() -> None:
        async with Client(server.url) as client:
            while not ended.is_set():
                replies.append(await client.request("POST", "/predict", random.choice(images), X_API_Key="key"))

    asking = [asyncio.create_task(ask()) for _ in range(16)]
    async with Client(server.url) as admin:
        for damage in (False,) * 5 + (True,):
            if damage:
                os.truncate(path, 1000)
            reloads.append((await admin.request("POST", "/admin/reload", X_API_Key="key")).status)
    ended.set()
    await asyncio.gather(*asking)
    return replies, reloads


SCENES: tuple[Callable[[Path, Images], Awaitable[None]], ...] = (flood, abandon, stop, bomb, wear, reload)


def main() -> None:
    """Plays all scenes, or those named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("images", type=Path, help="folder of image files")
    parser.add_argument("scenes", nargs="*", help=", ".join(scene.__name__ for scene in SCENES))
    arguments = parser.parse_args()
    images = [path.read_bytes() for path in sorted(arguments.images.rglob("*")) if path.is_file()][:500]
    for scene in SCENES:
        if not arguments.scenes or scene.__name__ in arguments.scenes:
            print(f"\n## {scene.__name__}: {scene.__doc__}")
            asyncio.run(scene(arguments.checkpoint, images))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
