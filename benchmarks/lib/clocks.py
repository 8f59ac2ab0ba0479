"""CPU time of things that are compared in one process, on one thread.

CPU seconds hold on a machine that others use as well, where wall time does not. What is compared takes turns, so
that a slow minute falls on all of it, and a control, which is one of them twice, shows what a ratio is worth.
"""

import statistics
import time
from collections.abc import Callable, Mapping

from benchmarks.lib.rounds import rotated

Work = Callable[[], object]


def cpu_milliseconds(work: Mapping[str, Work], rounds: int) -> dict[str, list[float]]:
    """Each one's CPU milliseconds a call, round by round, after one call that is not counted."""
    names, found = list(work), {name: list[float]() for name in work}
    for name in names:
        work[name]()
    for number in range(rounds):
        for name in rotated(names, number):
            started = time.process_time()
            work[name]()
            found[name].append(1000 * (time.process_time() - started))
    return found


def times(slow: list[float], fast: list[float]) -> float:
    """How many times as long one took as the other, as the median over the rounds."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def table(*rows: tuple[object, ...]) -> str:
    """A Markdown table; the first row is its head, and the first column its names."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    lines.insert(1, "| --- |" + " ---: |" * (len(rows[0]) - 1))
    return "\n".join(lines)
