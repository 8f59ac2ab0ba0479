"""CPU time of pieces of work that are compared in one process, on one thread.

CPU time can be compared on a machine that others use as well; wall time cannot. The pieces run in turns, so that a slow
period of the machine affects all of them. A control, one of them measured twice, shows how far a ratio can be trusted.
"""

import statistics
import time
from collections.abc import Callable, Mapping

from benchmarks.lib.rounds import rotate

Work = Callable[[], object]


def measure_cpu_milliseconds(work: Mapping[str, Work], rounds: int) -> dict[str, list[float]]:
    """CPU milliseconds a call of each piece of work, by round, after one call that is not counted."""
    names, found = list(work), {name: list[float]() for name in work}
    for name in names:
        work[name]()
    for number in range(rounds):
        for name in rotate(names, number):
            started = time.process_time()
            work[name]()
            found[name].append(1000 * (time.process_time() - started))
    return found


def median_ratio(slow: list[float], fast: list[float]) -> float:
    """The median over the rounds of the ratio of `slow` to `fast`."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))
