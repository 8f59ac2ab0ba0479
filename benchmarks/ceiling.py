"""Compares the throughput of the server over HTTP with that of the model alone.

`python -m benchmarks.ceiling CHECKPOINT IMAGES --out benchmarks/results/ceiling-224.md`

The model alone is the service's own `Classifier` in this process, on pixels in memory, with the fastest number of
threads and batch size. It decodes nothing and handles no requests. It is compared with a server with default settings
and enough clients to fill two batches. Both are measured twice a round, as their own control.
Clients and server share the cores, so the clients' CPU time lowers the ratio of throughputs. The ratio of CPU times
shows what remains without the clients, if every core is busy.
"""

import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

from app.runtime import limit_openmp_spinning
from benchmarks.lib.loops import read_images_or_exit
from benchmarks.lib.report import describe_machine, format_spread, median, run_and_report
from benchmarks.lib.rounds import (
    Measurement,
    compute_rate_ratios,
    make_comparison_parser,
    measure_server,
    resume_server,
    rotate,
)
from benchmarks.lib.server import start_vggserve

if TYPE_CHECKING:
    from app.serving.classifier import Classifier
    from models.preprocess import Pixels

IMAGES = 48  # at most, at even distances through the folder
TRIAL_SECONDS = 1.0  # of each number of threads and size; if one batch takes longer, larger ones are not tried
CLIENTS = 8, 128  # at least and at most
MAX_IMAGE_PIXELS = 64_000_000  # the default of the service


def measure_repeated(work: Callable[[], object], images: int, seconds: float) -> Measurement:
    """Repeats `work`, each time on `images` images, for `seconds`."""
    started, cpu, done = time.perf_counter(), time.process_time(), 0
    while (passed := time.perf_counter() - started) < seconds:
        work()
        done += images
    return Measurement(done / passed, (time.process_time() - cpu) / done)


def find_fastest_batch(classifier: "Classifier", pixels: Sequence["Pixels"], largest: int) -> list["Pixels"]:
    """The batch, of a power of two images, with the most images a second. Leaves torch with its number of threads."""
    # Imported here because `main` sets OpenMP's variables before torch is loaded.
    import torch

    from app.serving.autotune import count_cores

    best, fastest = 0.0, (1, repeat_pixels(pixels, 1))
    for threads in sorted({1, count_cores()}):
        torch.set_num_threads(threads)
        size = 1
        while size <= largest:
            batch = repeat_pixels(pixels, size)
            classifier.compute_logits(batch)
            trial = measure_repeated(partial(classifier.compute_logits, batch), size, TRIAL_SECONDS)
            if trial.rate > best:
                best, fastest = trial.rate, (threads, batch)
            if size / trial.rate > TRIAL_SECONDS:
                break
            size *= 2
    torch.set_num_threads(fastest[0])
    return fastest[1]


def repeat_pixels(pixels: Sequence["Pixels"], size: int) -> list["Pixels"]:
    """`size` images; if there are fewer, they repeat from the first one."""
    return list(islice(cycle(pixels), size))


async def compare_with_model(
    checkpoint: Path, images: Sequence[bytes], rounds: int, seconds: float, command: str
) -> str:
    """The report. Raises CheckpointError, ValueError for a file that is no image, RuntimeError."""
    limit_openmp_spinning()  # before torch is loaded, as the service does
    import torch

    from app.decoding.images import decode
    from app.errors import ServiceError
    from app.serving.classifier import MAX_BATCH_SIZES, load_classifier
    from models.checkpoint import read_checkpoint
    from models.device import find_device

    loaded = read_checkpoint(checkpoint)
    a, preprocessing = loaded.metadata.architecture, loaded.metadata.preprocessing
    classifier = load_classifier(loaded, "auto", "auto")
    try:
        pixels = [decode(image, preprocessing, MAX_IMAGE_PIXELS) for image in images]
    except ServiceError as error:
        raise ValueError(f"one of the images cannot be used: {error}") from error
    batch = find_fastest_batch(classifier, pixels, MAX_BATCH_SIZES[find_device("auto").type])
    endless, size = cycle(images), len(batch)
    clients = min(max(CLIENTS[0], 2 * size), CLIENTS[1])
    print(f"{torch.get_num_threads()} threads, {size} images a batch, {clients} clients", file=sys.stderr)

    async with AsyncExitStack() as stack:
        servers = []
        for _ in range(2):
            servers.append(await stack.enter_async_context(start_vggserve(checkpoint, "--drain-delay", "0")))
            servers[-1].pause()

        async def model() -> Measurement:
            return measure_repeated(partial(classifier.compute_logits, batch), size, seconds)

        async def decoding() -> Measurement:
            return measure_repeated(
                lambda: decode(next(endless), preprocessing, MAX_IMAGE_PIXELS), 1, min(1.0, seconds)
            )

        async def http(number: int) -> Measurement:
            async with resume_server(servers[number], images[0]):
                return await measure_server(servers[number], images, clients, seconds)

        parts: dict[str, Callable[[], Awaitable[Measurement]]] = {
            "model": model,
            "model again": model,
            "HTTP": lambda: http(0),
            "HTTP again": lambda: http(1),
            "decoding alone, one thread": decoding,
        }
        measurements: dict[str, list[Measurement]] = {name: [] for name in parts}
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
            for name in rotate(list(parts), number):
                measurements[name].append(await parts[name]())

    cpu = {name: 1000 * median([turn.cpu_seconds for turn in turns]) for name, turns in measurements.items()}
    client_cpu = {
        name: 1000 * median([turn.client_cpu_seconds for turn in turns]) for name, turns in measurements.items()
    }

    def ratio(these: str, those: str) -> str:
        return format_spread(compute_rate_ratios(measurements[these], measurements[those]))

    rows = (
        f"| {name} | {median([turn.rate for turn in turns]):.1f} | {cpu[name]:.2f} | {client_cpu[name]:.2f} |"
        for name, turns in measurements.items()
    )
    return "\n".join(
        (
            f"# HTTP against the model alone at {a.input_size} x {a.input_size}\n",
            f"- Model: {a.name}, width {a.width:g}, head {a.head}, {a.num_classes} labels, in {classifier.dtype} on "
            f"{classifier.name}; alone it is fastest with {torch.get_num_threads()} threads and {size} images a batch",
            f"- Images: {len(images)}, of {sum(map(len, images)) / len(images) / 1024:.1f} KiB in the mean",
            f"- Machine: {describe_machine('torch', 'pillow', 'fastapi', 'uvicorn')}",
            f"- Command: `{command}`\n",
            "| what | images/s | CPU ms an image | clients' CPU ms an image |",
            "| --- | --- | --- | --- |",
            *rows,
            f"\n- HTTP / model: **{ratio('HTTP', 'model')}**",
            f"- Control, model again / model: {ratio('model again', 'model')}; "
            f"HTTP again / HTTP: {ratio('HTTP again', 'HTTP')}",
            f"- The same from CPU times: {cpu['model'] / (cpu['HTTP'] + client_cpu['HTTP']):.2f} with the clients on "
            f"the same cores, {cpu['model'] / cpu['HTTP']:.2f} without them\n",
            f"Interleaved rounds, {rounds} of them, {seconds:g} s a visit, {clients} keep-alive clients; servers are "
            "stopped while others work. Medians over rounds; ratios within a round, with minimum and maximum.",
        )
    )


def main() -> None:
    """Prints the report; its progress goes to stderr."""
    arguments = make_comparison_parser(__doc__, IMAGES, "visit", 10.0).parse_args()
    images = read_images_or_exit(arguments.images, IMAGES)
    rounds, seconds = arguments.rounds, arguments.seconds
    if rounds < 1 or seconds <= 0:
        sys.exit(f"error: rounds {rounds} and seconds {seconds:g} must be positive")
    options = f"--rounds {rounds} --seconds {seconds:g}"
    command = f"python -m benchmarks.ceiling {arguments.checkpoint.name} {arguments.images.name} {options}"
    run_and_report(compare_with_model(arguments.checkpoint, images, rounds, seconds, command), arguments.out)


if __name__ == "__main__":
    main()
