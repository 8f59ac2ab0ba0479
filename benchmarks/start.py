"""Time from the start of the process until the server is ready, by part, compared with a reference.

`python -m benchmarks.start CHECKPOINT` starts new processes in turns: the reference (import torch, read the file's
bytes), the same again as the control, one that measures the parts of the start one after the other, and the server
itself, until /health/ready answers 200. The first round is not counted: it fills the file cache and writes the modules'
bytecode.
"""

import argparse
import asyncio
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.lib.errors import exit_on_error
from benchmarks.lib.stage_timer import find_function
from models.files import read_file

REFERENCE = "import os, pathlib, sys, torch; pathlib.Path(sys.argv[1]).read_bytes(); os._exit(0)"
PARTS = ("interpreter", "app without torch", "torch, and the file meanwhile", "the rest's imports")
PARSING = "the checkpoint's tensors and hash"
LOADING = {  # the dotted name of each measured function -> its part in the table
    "app.serving.classifier.restore_model": "building the network",
    "app.serving.classifier.fuse": "fusing",
    "app.serving.classifier.Classifier.__init__": "placing and prepacking",
    "app.serving.classifier._measure_golden_change": "the golden sample",
    "app.serving.classifier.find_threads": "autotune: threads",
    "app.serving.classifier.find_max_batch_size": "autotune: batch size",
}


class StartParts:
    """Wall and CPU seconds of each part of this process's start, from `spawned`, in seconds of `time.monotonic`."""

    def __init__(self, spawned: float) -> None:
        self.seconds: dict[str, tuple[float, float]] = {}
        self._wall, self._cpu = spawned, 0.0

    def end(self, part: str) -> None:
        """Counts the time since the end of the last part to this part."""
        wall, cpu = time.monotonic(), time.process_time()
        before = self.seconds.get(part, (0.0, 0.0))
        self.seconds[part] = (before[0] + wall - self._wall, before[1] + cpu - self._cpu)
        self._wall, self._cpu = wall, cpu

    def watch(self, path: str, part: str) -> None:
        """Makes the function at `module.name` or `module.class.name` a part of its own. Raises ValueError."""
        owner, name = find_function(path)
        function: Callable[..., Any] = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            self.end("between")
            result = function(*args, **kwargs)
            self.end(part)
            return result

        setattr(owner, name, watched)


def print_parts(checkpoint: str, spawned: float) -> None:
    """Starts as the server does, without its event loop, and prints the parts as JSON."""
    gc.disable()
    parts = StartParts(spawned)
    parts.end("interpreter")
    import uvicorn  # noqa: F401  the imports are what is timed

    from app.decoding.zygote import Zygote
    from app.main import create_app
    from app.settings import Settings

    create_app(settings := Settings.model_validate({"checkpoint": checkpoint}), Zygote())
    parts.end("app without torch")
    fetched = ThreadPoolExecutor(1).submit(read_file, settings.checkpoint)
    import torch  # noqa: F401

    parts.end("torch, and the file meanwhile")
    from app.serving.pipeline import load_model
    from models.checkpoint import parse_checkpoint

    parts.end("the rest's imports")
    for path, part in LOADING.items():
        parts.watch(path, part)
    checkpoint_file = parse_checkpoint(settings.checkpoint, fetched.result())
    parts.end(PARSING)
    load_model(settings, checkpoint_file)
    parts.end("between")
    print(json.dumps(parts.seconds))


def measure_parts(checkpoint: str) -> dict[str, tuple[float, float]]:
    """Wall and CPU seconds of the parts, measured in a new process."""
    command = (sys.executable, "-m", "benchmarks.start", checkpoint, "--spawned", str(time.monotonic()))
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    return {part: (wall, cpu) for part, (wall, cpu) in json.loads(done.stdout).items()}


def measure_reference(checkpoint: str) -> tuple[float, float]:
    """Wall and CPU seconds of a process that imports torch and reads the file."""
    started, before = time.monotonic(), os.times()
    subprocess.run((sys.executable, "-c", REFERENCE, checkpoint), check=True)  # noqa: S603
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.monotonic() - started, cpu


async def measure_server_start(checkpoint: str) -> tuple[float, float]:
    """Wall and CPU seconds of the server until it is ready."""
    from benchmarks.lib.server import start_vggserve  # here because the timed process must not load it

    started = time.monotonic()
    async with start_vggserve(Path(checkpoint), "--drain-delay", "0") as process:
        return time.monotonic() - started, process.cpu_seconds()


def print_report(checkpoint: str, rounds: int) -> None:
    """Prints medians over the rounds."""
    # Imported here because the timed process must not load them.
    from benchmarks.lib.report import describe_machine, format_spread, format_table, median

    measured: dict[str, list[tuple[float, float]]] = {}
    for number in range(rounds + 1):
        round_ = {
            "reference": measure_reference(checkpoint),
            "control": measure_reference(checkpoint),
            **measure_parts(checkpoint),
        }
        round_["server until ready"] = asyncio.run(measure_server_start(checkpoint))
        for name, seconds in round_.items() if number else ():
            measured.setdefault(name, []).append(seconds)
    medians = {name: [median(values) for values in zip(*seconds, strict=True)] for name, seconds in measured.items()}
    order = (*PARTS, PARSING, *LOADING.values(), "between", "server until ready", "reference", "control")
    rows = [(name, f"{medians[name][0]:.3f}", f"{medians[name][1]:.3f}") for name in order]
    print(format_table(("part", "wall s", "CPU s"), *rows))
    for which, unit in enumerate(("wall", "CPU")):
        against = [
            format_spread([a[which] / b[which] for a, b in zip(measured[name], measured["reference"], strict=True)])
            for name in ("server until ready", "control")
        ]
        print(f"\n{unit}: until ready {against[0]} times the reference; control {against[1]}", end="")
    print(f"\n\nn = {rounds}; {describe_machine('torch')}")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--rounds", type=int, default=9, help="(default: 9)")
    parser.add_argument("--spawned", type=float, help="print the parts of this process, which was started at this time")
    arguments = parser.parse_args()
    if arguments.spawned is not None:
        with exit_on_error():
            print_parts(arguments.checkpoint, arguments.spawned)
        return
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # it would make every start compile the modules again
    try:
        with exit_on_error():
            read_file(Path(arguments.checkpoint))
            print_report(arguments.checkpoint, arguments.rounds)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # the process itself has said why


if __name__ == "__main__":
    main()
