"""What a replica does best on this machine, found by trying: threads per operator, images per batch.

Owns the measurements that stand in for settings. Knows nothing of checkpoints or precisions; a replica
is a function from a batch of N images to something that is thrown away.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator

import torch

Predict = Callable[[int], object]  # predicts a batch of that many images

WARM_UP_SECONDS = 2.0  # a batch that would take longer is not tried
SLOW_SECONDS = 0.2  # a trial that takes longer is kept short: what a first call costs more is little beside it
WORTHWHILE = 1.02  # a larger batch must give this many times the images per second
PATIENCE = 2  # sizes in a row that do not, after which larger ones are not tried
THREADS_WORTHWHILE = 1.1  # more threads, which other processes may want too, this many times
BATCH, ROUNDS = 8, 3  # of the trials for the number of threads; a single image where so many are slow


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
    batch = BATCH if BATCH * _seconds(predict, 1) <= SLOW_SECONDS else 1
    best, seconds = 1, _median_seconds(predict, batch, 1)
    for threads in _doubling(limit):
        if threads > 1:
            if (more := _median_seconds(predict, batch, threads)) * THREADS_WORTHWHILE > seconds:
                break
            best, seconds = threads, more
    torch.set_num_threads(best)
    return best


def find_ceiling(predict: Predict, limit: int) -> int:
    """The smallest batch beyond which images per second no longer grow, by trying 1, 2, 4, … up to `limit`.

    Each size runs twice, unless that is slow, and the better run counts. A gain is small from one size to the next, and
    larger in a server, where each batch costs its handing over as well.
    """
    best_rate, ceiling, seconds, failed = 0.0, 1, 0.0, 0
    for size in _doubling(limit):
        try:
            runs = 2 if 2 * seconds <= SLOW_SECONDS else 1
            seconds = min(_seconds(predict, size) for _ in range(runs))
        except torch.OutOfMemoryError:
            break
        if size / seconds > best_rate * WORTHWHILE:
            best_rate, ceiling, failed = size / seconds, size, 0
        else:
            failed += 1
        if failed == PATIENCE or 2 * seconds > WARM_UP_SECONDS:
            break
    return ceiling


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


def _seconds(predict: Predict, size: int) -> float:
    started = time.perf_counter()
    predict(size)
    return time.perf_counter() - started


def _median_seconds(predict: Predict, batch: int, threads: int) -> float:
    torch.set_num_threads(threads)
    predict(batch)
    return statistics.median(_seconds(predict, batch) for _ in range(ROUNDS))
