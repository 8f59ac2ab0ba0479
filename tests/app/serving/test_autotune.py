"""The choices of autotuning, on fake machines whose clock only moves when they compute a batch."""

import pytest
import torch

from app.serving import autotune
from app.serving.autotune import count_cores, find_max_batch_size, find_threads


class Machine:
    """Takes `seconds(size, threads)` for a batch, on a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, batch: float, image: float, threads: dict[int, float]) -> None:
        self.now, self.batch, self.image, self.speed = 0.0, batch, image, threads
        self.tried: list[int] = []
        self.threads = 1
        monkeypatch.setattr("app.serving.autotune.time.perf_counter", lambda: self.now)
        monkeypatch.setattr(torch, "set_num_threads", lambda threads: setattr(self, "threads", threads))

    def run_batch(self, size: int) -> None:
        self.tried.append(size)
        self.now += (self.batch + self.image * size) / self.speed[self.threads]


@pytest.fixture(params=[2, 8])
def available(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """That many cores."""
    count: int = request.param
    monkeypatch.setattr(autotune, "count_cores", lambda: count)
    return count


def test_the_batch_grows_while_throughput_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a fixed cost per batch the size is large; where larger batches are slower it is a single image."""
    shared = Machine(monkeypatch, batch=0.010, image=0.001, threads={1: 1.0})
    assert find_max_batch_size(shared.run_batch, 256) == 256
    crowded = Machine(monkeypatch, batch=0.0, image=0.001, threads={1: 1.0})
    assert find_max_batch_size(lambda size: crowded.run_batch(size**2), 256) == 1


def test_the_largest_of_equally_fast_sizes_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of sizes with the same throughput, as far as they are tried, the result is the largest."""
    machine = Machine(monkeypatch, batch=0.0, image=0.001, threads={1: 1.0})
    assert find_max_batch_size(machine.run_batch, 256) == max(machine.tried) == 4


def test_the_limit_itself_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that is no power of two is the last size."""
    machine = Machine(monkeypatch, batch=1.0, image=0.0, threads={1: 100.0})
    assert find_max_batch_size(machine.run_batch, 12) == 12
    assert sorted(set(machine.tried)) == [1, 2, 4, 8, 12]


def test_trials_end_where_throughput_has_stopped_growing(monkeypatch: pytest.MonkeyPatch) -> None:
    """After two sizes in a row that gain nothing no larger one is tried."""
    machine = Machine(monkeypatch, batch=0.0, image=0.001, threads={1: 1.0})
    find_max_batch_size(machine.run_batch, 256)
    assert machine.tried == [1, 1, 2, 2, 4, 4]


def test_slow_batches_are_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A size that takes more than a fifth of a second runs once, and threads are compared on a single image."""
    machine = Machine(monkeypatch, batch=0.0, image=0.06, threads={1: 1.0, 2: 2.0})
    find_max_batch_size(machine.run_batch, 256)
    assert machine.tried == [1, 1, 2, 2, 4]
    machine.tried.clear()
    monkeypatch.setattr(autotune, "count_cores", lambda: 2)
    assert find_threads(machine.run_batch, 1) == 2
    assert set(machine.tried) == {1}


def test_a_single_core_needs_no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is one core for a replica there is one thread."""
    machine = Machine(monkeypatch, batch=0.01, image=0.01, threads={1: 1.0})
    monkeypatch.setattr(autotune, "count_cores", lambda: 3)
    assert find_threads(machine.run_batch, 2) == 1
    assert not machine.tried


def test_slow_batches_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trials end where the next batch would take more than two seconds."""
    machine = Machine(monkeypatch, batch=0.0, image=0.3, threads={1: 1.0})
    find_max_batch_size(machine.run_batch, 256)
    assert max(machine.tried) == 4


def test_out_of_memory_ends_the_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """The result is the largest batch that fitted in memory and was as fast."""
    machine = Machine(monkeypatch, batch=1.0, image=0.0, threads={1: 100.0})

    def run_batch(size: int) -> None:
        if size > 8:
            raise torch.OutOfMemoryError
        machine.run_batch(size)

    assert find_max_batch_size(run_batch, 256) == 8


def test_threads_that_help_are_taken(monkeypatch: pytest.MonkeyPatch, available: int) -> None:
    """Where twice the threads are nearly twice as fast, a replica takes every core."""
    speed = {threads: threads**0.9 for threads in (1, 2, 4, 8)}
    machine = Machine(monkeypatch, batch=0.01, image=0.01, threads=speed)
    assert find_threads(machine.run_batch, 1) == available
    assert machine.threads == available


def test_threads_that_hinder_are_left(monkeypatch: pytest.MonkeyPatch, available: int) -> None:
    """Where a second thread gains nothing, as beside a busy process, there is one."""
    machine = Machine(monkeypatch, batch=0.01, image=0.01, threads={1: 1.0, **dict.fromkeys((2, 4, 8), 0.1)})
    assert find_threads(machine.run_batch, 1) == 1
    assert machine.threads == 1


def test_replicas_share_the_cores(monkeypatch: pytest.MonkeyPatch, available: int) -> None:
    """Two replicas take half of the cores each at most."""
    machine = Machine(monkeypatch, batch=0.01, image=0.01, threads={threads: float(threads) for threads in (1, 2, 4)})
    assert find_threads(machine.run_batch, 2) == available // 2


def test_cores_may_be_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """OMP_NUM_THREADS is a limit; nonsense in it is none."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert count_cores() == 1
    for value in ("", "many", "0"):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert count_cores() >= 1
