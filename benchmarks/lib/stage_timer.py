"""CPU time of named stages of a running program, each without the stages inside it.

Owns wrapping functions and coroutines of other modules, and reading the CPU clocks of threads. A coroutine is timed
step by step, so that the work of others while it waits is not counted.
"""

import functools
import inspect
import pkgutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Iterable
from pathlib import Path
from typing import Any


def find_function(path: str) -> tuple[Any, str]:
    """The module or class that has the function at `module.name` or `module.class.name`, and the function's name.

    Imports the module. Raises ValueError if there is no such function.
    """
    where, _, name = path.rpartition(".")
    try:
        owner = pkgutil.resolve_name(where)
        getattr(owner, name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{path}, which this benchmark measures, does not exist: {error}") from error
    return owner, name


class StageTimer:
    """Sums the CPU time of stages in `seconds`; `watch` adds a function to a stage."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._local = threading.local()

    def watch(self, path: str, stage: str) -> None:
        """Counts the function at `module.name` or `module.class.name` to a stage. Raises ValueError."""
        owner, name = find_function(path)
        function = getattr(owner, name)
        setattr(owner, name, self._timed(function, stage))

    def _timed(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def coroutine(*args: Any, **kwargs: Any) -> Any:
                return await _Steps(function(*args, **kwargs), lambda: self._enter(stage), self._leave)

            return coroutine

        @functools.wraps(function)
        def plain(*args: Any, **kwargs: Any) -> Any:
            self._enter(stage)
            try:
                return function(*args, **kwargs)
            finally:
                self._leave()

        return plain

    def _enter(self, stage: str) -> None:
        now, stages = time.thread_time(), self._stages()
        if stages:
            self.seconds[stages[-1]] += now - self._local.since
        stages.append(stage)
        self._local.since = time.thread_time()

    def _leave(self) -> None:
        self.seconds[self._stages().pop()] += time.thread_time() - self._local.since
        self._local.since = time.thread_time()

    def _stages(self) -> list[str]:
        """The stages that this thread is in, the innermost last."""
        if not hasattr(self._local, "stages"):
            self._local.stages = []
        stages: list[str] = self._local.stages
        return stages


class _Steps:
    """Awaits a coroutine and calls `enter` and `leave` around each of its steps."""

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], enter: Callable[[], None], leave: Callable[[], None]
    ) -> None:
        self._coroutine, self._enter, self._leave = coroutine, enter, leave

    def __await__(self) -> Generator[Any, Any, Any]:
        step: Callable[[], Any] = lambda: self._coroutine.send(None)  # noqa: E731
        while True:
            self._enter()
            try:
                awaited = step()
            except StopIteration as end:
                return end.value
            finally:
                self._leave()
            try:
                yield awaited
            except BaseException as error:  # the coroutine handles a cancellation itself
                step = functools.partial(self._coroutine.throw, error)
            else:
                step = functools.partial(self._coroutine.send, None)


def read_thread_seconds() -> dict[str, float]:
    """CPU seconds of each of Python's threads, by its name."""
    return {
        thread.name: time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
        for thread in threading.enumerate()
        if thread.ident is not None
    }


def read_process_seconds(pids: Iterable[int]) -> float:
    """CPU seconds that these processes have taken together (Linux, proc(5): schedstat)."""
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids) / 1e9
