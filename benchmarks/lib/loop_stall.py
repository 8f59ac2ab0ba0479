"""How long work holds up the event loop, and how much memory it takes.

A probe runs as often as the loop lets it. Between two of its runs a health check would have to wait. This time is
measured as CPU time of the whole process, so that other processes of the machine do not count, and threads that hold
Python's global lock do.
"""

import asyncio
import statistics
import time
import tracemalloc
from collections.abc import Awaitable, Callable

Work = Callable[[], Awaitable[object]]


async def measure_stall_milliseconds(work: Work, rounds: int) -> float:
    """The median over the rounds of the longest CPU time between two runs of a probe while the work runs."""
    return statistics.median([await _longest_pause(work) for _ in range(rounds)])


async def _longest_pause(work: Work) -> float:
    longest, task = 0.0, asyncio.ensure_future(work())
    before = time.process_time()
    while not task.done():
        await asyncio.sleep(0)
        now = time.process_time()
        longest, before = max(longest, now - before), now
    await task
    return 1000 * longest


async def measure_cpu_milliseconds_of(work: Work, rounds: int) -> float:
    """The median over the rounds of the CPU time of the whole process while the work runs alone."""
    found = []
    for _ in range(rounds):
        started = time.process_time()
        await work()
        found.append(1000 * (time.process_time() - started))
    return statistics.median(found)


async def measure_peak_megabytes(work: Work) -> float:
    """The largest sum of Python's allocations while the work runs, less those before it."""
    tracemalloc.start()
    try:
        await work()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
