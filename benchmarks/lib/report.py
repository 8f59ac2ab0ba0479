"""Reports of benchmarks: medians, spreads, tables, the line that names the machine, and the file that is written."""

import asyncio
import os
import platform
import signal
import statistics
import sys
from collections.abc import Coroutine, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.lib.errors import exit_on_error

OMP_THREADS = "OMP_NUM_THREADS"


def median(values: Sequence[float]) -> float:
    """The median; nan if there is no value."""
    return statistics.median(values) if values else float("nan")


def format_spread(values: Sequence[float]) -> str:
    """The median, minimum and maximum as text."""
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def format_table(*rows: tuple[object, ...]) -> str:
    """A Markdown table. The first row is the head; the first column is aligned to the left, the others to the right."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    lines.insert(1, "| --- |" + " ---: |" * (len(rows[0]) - 1))
    return "\n".join(lines)


def describe_machine(*packages: str) -> str:
    """The processor, the number of cores, and the versions of Python and of the packages."""
    cpu = Path("/proc/cpuinfo").read_text().partition("model name")[2].partition(":")[2].partition("\n")[0].strip()
    cores = len(os.sched_getaffinity(0))
    limit = f", {OMP_THREADS}={os.environ[OMP_THREADS]}" if OMP_THREADS in os.environ else ""
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    return f"{cpu or platform.machine()}, {cores} cores{limit}; Python {platform.python_version()}, {versions}"


def run_and_report(measurement: Coroutine[Any, Any, str], out: Path | None) -> None:
    """Awaits the report, prints it and writes it to `out`. SIGTERM acts as Ctrl-C, so that the servers end too."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        with exit_on_error():
            report = asyncio.run(measurement)
    except KeyboardInterrupt:
        sys.exit(130)
    print(report)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(report + "\n")
