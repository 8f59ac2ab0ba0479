"""What a replica does best on this machine, found by trying: threads per operator, images per batch.

Owns the measurements that stand in for settings. Knows nothing of checkpoints or precisions; a replica
is a function from a batch of N images to something that is thrown away.
"""

import math
import os
import time
from collections.abc import Callable, Iterator

import torch

Predict = Callable[[int], object]  # predicts a batch of that many images

WARM_UP_SECONDS = 2.0  # a batch that would take longer is not tried
SLOW_SECONDS = 0.2  # a trial that takes longer is kept short: what a first call costs more is little beside it
PATIENCE = 2  # sizes in a row that give no more images per second, after which larger ones are not tried
NEARLY = 0.95  # of the best rate: a server hands over each batch, which a trial does not, and larger ones are fewer
THREADS_WORTHWHILE = 1.1  # more threads, which other processes may want too, this many times
BATCH = 8  # images of the trials for the number of threads; a single one where so many are slow


def find_threads(predict: Predict, replicas: int) -> int:
    """Threads per operator on a CPU, by trying 1, 2, 4, … and each replica's share of the cores.

    A team of threads that meet after each layer is slower than one where layers are small, and far
    slower where another process or a container's CPU quota holds one of them up. Leaves torch, for
    threads that start from now on, with the number that it returns.
    """
    limit = max(1, cores() // replicas)
    torch.set_num_threads(1)
    if limit == 1:
        return 1
    predict(1)
    batch = BATCH if BATCH * _seconds(predict, 1, runs=1) <= SLOW_SECONDS else 1
    best, seconds = 1, _seconds_with(1, predict, batch)
    for threads in _doubling(limit):
        if threads > 1:
            if (more := _seconds_with(threads, predict, batch)) * THREADS_WORTHWHILE > seconds:
                break
            best, seconds = threads, more
    torch.set_num_threads(best)
    return best


def find_max_batch_size(predict: Predict, limit: int) -> int:
    """The largest batch with nearly the most images per second, by trying 1, 2, 4, … up to `limit`.

    Trials end where that no longer grows. Each size runs twice, unless that is slow.
    """
    rates: dict[int, float] = {}
    best_rate, seconds, failed = 0.0, 0.0, 0
    for size in _doubling(limit):
        try:
            seconds = _seconds(predict, size, runs=2 if 2 * seconds <= SLOW_SECONDS else 1)
        except torch.OutOfMemoryError:
            break
        rates[size] = size / seconds
        failed = 0 if rates[size] > best_rate else failed + 1
        best_rate = max(best_rate, rates[size])
        if failed == PATIENCE or 2 * seconds > WARM_UP_SECONDS:
            break
    return max((size for size, rate in rates.items() if rate >= NEARLY * best_rate), default=1)


def cores() -> int:
    """Cores that this process may use, or fewer if OMP_NUM_THREADS says so."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(available, int(asked)) if asked.isdigit() and int(asked) else available


def _doubling(limit: int) -> Iterator[int]:
    """1, 2, 4, …, and `limit` itself as the last."""
    size = 1
    while size < limit:
        yield size
        size *= 2
    yield limit


def _seconds_with(threads: int, predict: Predict, batch: int) -> float:
    torch.set_num_threads(threads)
    return _seconds(predict, batch, runs=3)


def _seconds(predict: Predict, size: int, runs: int) -> float:
    """Of the best run: the first of its kind also warms up, and whatever else the machine does only makes it longer."""
    best = math.inf
    for _ in range(runs):
        started = time.perf_counter()
        predict(size)
        best = min(best, time.perf_counter() - started)
    return best
