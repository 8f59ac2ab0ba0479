"""Measures what a replica does fastest on this machine: threads per operator, images per batch.

Owns the measurements that replace settings. They take a function that computes a batch of N images.
"""

import math
import os
import time
from collections.abc import Callable, Iterator

import torch

RunBatch = Callable[[int], object]  # computes a batch of that many images

MAX_BATCH_SECONDS = 2.0  # a batch that would take longer is not tried
SLOW_SECONDS = 0.2  # a trial that takes longer runs once: the extra time of a first call is a small part of it
PATIENCE = 2  # sizes in a row without more images per second, after which larger sizes are not tried
# Share of the best rate that is fast enough. A server also spends time on each batch outside the model, which a trial
# does not measure, and with larger batches it spends that less often.
MIN_RATE_SHARE = 0.95
MIN_SPEEDUP = 1.1  # that more threads must give, because other processes may need the cores
THREAD_TRIAL_IMAGES = 8  # images per batch of the trials for the number of threads; 1 where 8 would be slow


def find_threads(run_batch: RunBatch, replicas: int) -> int:
    """Returns the best number of threads per operator on a CPU, of 1, 2, 4, … up to each replica's share of the cores.

    The threads of an operator wait for each other after each layer. With small layers several threads are therefore
    slower than one. They are far slower if another process or a container's CPU quota holds up one of them. Sets the
    number in torch for threads that start from now on.
    """
    limit = max(1, count_cores() // replicas)
    torch.set_num_threads(1)
    if limit == 1:
        return 1
    run_batch(1)
    images = THREAD_TRIAL_IMAGES if THREAD_TRIAL_IMAGES * _time_batch(run_batch, 1, runs=1) <= SLOW_SECONDS else 1
    best, best_seconds = 1, _time_with_threads(1, run_batch, images)
    for threads in _powers_of_two(limit):
        if threads > 1:
            seconds = _time_with_threads(threads, run_batch, images)
            if seconds * MIN_SPEEDUP > best_seconds:
                break
            best, best_seconds = threads, seconds
    torch.set_num_threads(best)
    return best


def find_max_batch_size(run_batch: RunBatch, limit: int) -> int:
    """Returns the largest of 1, 2, 4, … `limit` images whose rate is at least MIN_RATE_SHARE of the best rate.

    The trials end where the rate, in images per second, no longer grows. Each size runs twice, unless that is slow.
    """
    rates: dict[int, float] = {}
    best_rate, seconds, sizes_without_gain = 0.0, 0.0, 0
    for size in _powers_of_two(limit):
        try:
            seconds = _time_batch(run_batch, size, runs=2 if 2 * seconds <= SLOW_SECONDS else 1)
        except torch.OutOfMemoryError:
            break
        rates[size] = size / seconds
        sizes_without_gain = 0 if rates[size] > best_rate else sizes_without_gain + 1
        best_rate = max(best_rate, rates[size])
        if sizes_without_gain == PATIENCE or 2 * seconds > MAX_BATCH_SECONDS:
            break
    return max((size for size, rate in rates.items() if rate >= MIN_RATE_SHARE * best_rate), default=1)


def count_cores() -> int:
    """Returns the number of cores that this process may use, or OMP_NUM_THREADS if that is smaller."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(available, int(limit)) if limit.isdigit() and int(limit) else available


def _powers_of_two(limit: int) -> Iterator[int]:
    """Yields 1, 2, 4, …, and `limit` itself as the last."""
    size = 1
    while size < limit:
        yield size
        size *= 2
    yield limit


def _time_with_threads(threads: int, run_batch: RunBatch, images: int) -> float:
    torch.set_num_threads(threads)
    return _time_batch(run_batch, images, runs=3)


def _time_batch(run_batch: RunBatch, images: int, runs: int) -> float:
    """Returns the seconds of the fastest run: a first call and other processes only make a run slower."""
    fastest = math.inf
    for _ in range(runs):
        started = time.perf_counter()
        run_batch(images)
        fastest = min(fastest, time.perf_counter() - started)
    return fastest
