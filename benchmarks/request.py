"""CPU time of each stage of a request, and the share that lies outside the model.

`python -m benchmarks.request CHECKPOINT IMAGES` runs a server with default settings in this process, and
`benchmarks.load` as its client in another process. Each stage is timed by its thread's CPU clock, and the decoder
processes by the kernel's. A row has the time of
a stage without the stages inside it. The time of the event loop between the stages is a row of its own.
"""

import argparse
import asyncio
import gc
import os
import subprocess
import sys
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from app.logs import logging_to_stderr
from app.runtime import limit_openmp_spinning
from benchmarks.lib.errors import exit_on_error, read_files_below
from benchmarks.lib.stage_timer import StageTimer, read_process_seconds, read_thread_seconds

if TYPE_CHECKING:
    from app.server import Server

HTTP = "uvicorn.protocols.http.httptools_impl"
# The dotted name of each measured function -> its stage. A function that was imported by name is measured where it is
# used, so its name begins with the importing module.
LOOP_STAGES = {
    "app.http.protocol.BoundedProtocol.data_received": "HTTP in: parsing",
    f"{HTTP}.RequestResponseCycle.send": "HTTP out: head, body, socket",
    "app.http.middleware.RequestMiddleware.__call__": "middleware: id, in flight",
    "app.http.middleware.RequestMiddleware._account": "middleware: counts, log line",
    "fastapi.routing.APIRoute.matches": "framework: routing",
    "starlette.middleware.exceptions.ExceptionMiddleware.__call__": "framework and route: order of the steps",
    "app.http.routes.read_uploads": "body: reading, form, JSON",
    "app.serving.pipeline.Pipeline.classify": "queue, on the loop's side",
    "app.http.answers.prediction_fields": "answer: fields",
    "app.http.answers.to_json": "answer: JSON",
}
MODEL = "the model"
WORKER_STAGES = {
    "app.serving.classifier.Classifier.compute_logits": MODEL,
    "app.serving.classifier.Classifier.make_predictions": "softmax, calibration",
}
LOOP, DECODE, WORKER = "event loop between stages", "decoder processes", "the model's thread outside it"


async def run_load(url: str, images: Path, clients: int, form: int, seconds: float) -> None:
    """Runs a closed loop of clients in another process."""
    options = ("--closed", str(clients), "--seconds", str(seconds), *(("--form", str(form)) if form > 1 else ()))
    command = (sys.executable, "-m", "benchmarks.load", url, str(images), *options)
    await (await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)).wait()


async def measure_stages(
    server: "Server", images: Path, clients: int, form: int, seconds: float, timer: StageTimer
) -> tuple[dict[str, float], int]:
    """CPU milliseconds an image of every stage, and the number of images."""
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    await run_load(url, images, clients, form, 0.5)
    timer.seconds.clear()
    with server.service.pipeline() as pipeline:
        decoders = pipeline.decoders
    before, requests = read_thread_seconds(), server.server_state.total_requests
    decoding = read_process_seconds(decoders.pids)
    await run_load(url, images, clients, form, seconds)
    images_answered = form * (server.server_state.total_requests - requests)
    spent = {name: cpu - before.get(name, 0.0) for name, cpu in read_thread_seconds().items()}
    stages: dict[str, float] = {
        stage: timer.seconds[stage] for stage in (*LOOP_STAGES.values(), *WORKER_STAGES.values())
    }
    stages[LOOP] = spent["MainThread"] - sum(timer.seconds[stage] for stage in LOOP_STAGES.values())
    stages[DECODE] = read_process_seconds(decoders.pids) - decoding
    stages[WORKER] = sum(cpu for name, cpu in spent.items() if name.startswith("model"))
    stages[WORKER] -= sum(timer.seconds[stage] for stage in WORKER_STAGES.values())
    return {stage: 1000 * cpu / images_answered for stage, cpu in stages.items()}, images_answered


async def serve_and_measure(checkpoint: Path, images: Path, clients: list[int], form: int, seconds: float) -> None:
    """Starts the server, measures it under each number of clients, and prints the table. Raises ValueError."""
    # Imported here because `main` sets OpenMP's variables before torch is loaded.
    from app.decoding.zygote import Zygote
    from app.http.protocol import BoundedProtocol
    from app.main import create_app
    from app.server import Server
    from app.settings import Settings
    from benchmarks.lib.report import describe_machine, format_table

    timer = StageTimer()
    for path, stage in {**LOOP_STAGES, **WORKER_STAGES}.items():
        timer.watch(path, stage)
    app = create_app(Settings.model_validate({"checkpoint": checkpoint}), Zygote())
    config = uvicorn.Config(app, port=0, http=BoundedProtocol, ws="none", log_config=None, access_log=False)
    server = Server(config, app.state.service)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  uvicorn has no event for it
        await asyncio.sleep(0.01)
    await app.state.starting
    if app.state.service.failure is not None:
        await serving
        raise ValueError(str(app.state.service.failure))
    await server.on_tick(1)
    columns = [await measure_stages(server, images, count, form, seconds, timer) for count in clients]
    server.should_exit = True
    await serving
    outside = [sum(stages.values()) - stages[MODEL] for stages, _ in columns]
    head = ("CPU ms an image (share of all but the model)", *(f"{count} clients" for count in clients))
    rows = [
        (stage, *(format_cell(stages, stage, total) for (stages, _), total in zip(columns, outside, strict=True)))
        for stage in sorted(columns[0][0], key=lambda stage: -columns[0][0][stage])
    ]
    print(format_table(head, *rows, ("all but the model", *(f"{total:.3f}" for total in outside))))
    images_asked = ", ".join(str(n) for _, n in columns)
    print(f"\nn = {images_asked} images, {form} a request; {describe_machine('torch', 'fastapi', 'uvicorn')}")


def format_cell(stages: dict[str, float], stage: str, outside: float) -> str:
    share = "" if stage == MODEL else f" ({stages[stage] / outside:.0%})"
    return f"{stages[stage]:.3f}{share}"


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("images", type=Path, help="folder of image files")
    parser.add_argument("--clients", default="1,8", help="at once, comma-separated (default: 1,8)")
    parser.add_argument("--form", type=int, default=1, help="images in a request, as a form (default: 1, as the body)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each (default: 8)")
    arguments = parser.parse_args()
    limit_openmp_spinning()
    gc.disable()  # as the server does while it starts
    clients = [int(count) for count in arguments.clients.split(",")]
    import uvloop

    with exit_on_error():
        read_files_below(arguments.images)
        # Log lines are formatted, so that they are timed, but not shown.
        with redirect_stderr(Path(os.devnull).open("w")), logging_to_stderr("text", lambda _: None):
            uvloop.run(
                serve_and_measure(arguments.checkpoint, arguments.images, clients, arguments.form, arguments.seconds)
            )


if __name__ == "__main__":
    main()
