"""The watchdog of the model's threads.

Owns how long a replica may be busy with one batch, and what happens to the images of one that does not come back.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from app.serving.activity import Activity
from app.serving.entry import Entry
from app.serving.queue import Queue
from app.serving.replica_set import Progress, ReplicaSet

log = logging.getLogger("vggserve.watchdog")

INTERVAL_SECONDS = 1.0  # between two looks
# A batch may take this many times as long as the largest batch took when the model was loaded. A machine that other
# processes load, or a first batch on a cold GPU, can make a batch several times slower.
SLOWEST_FACTOR = 10
MIN_STUCK_SECONDS = 30.0  # however fast the model is
HUNG_FACTOR = 4  # a replica is hung after this many times as long as until it is stuck


class WatchedWorker(Protocol):
    """What the watchdog sees of a worker."""

    name: str
    activity: Activity

    def take_back(self) -> list[Entry]:
        """Returns the images that it holds. It will not answer them."""

    def has_died(self) -> bool:
        """Whether its thread has ended without saying so."""

    def abandon(self) -> None:
        """Hands back what a thread that has died held, and counts the replica as lost."""


class Watchdog:
    """Looks at every worker once in `interval_seconds`, on the event loop.

    Time is counted in looks and not read from a clock. A process that was stopped for an hour, as a frozen container
    is, would otherwise find all its replicas stuck.
    """

    def __init__(
        self,
        workers: Sequence[WatchedWorker],
        queue: Queue,
        replicas: ReplicaSet,
        stuck_seconds: float,
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        self._workers = workers
        self._queue = queue
        self._replicas = replicas
        self._stuck_seconds = stuck_seconds
        self._interval_seconds = interval_seconds
        self._last_seen: list[object | None] = [None] * len(workers)
        self._busy_seconds = [0.0] * len(workers)
        self._progress = [Progress.MOVING] * len(workers)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Looks from now on until `stop`."""
        self._timer = asyncio.get_running_loop().call_later(self._interval_seconds, self._look_again)

    def stop(self) -> None:
        """Looks no more."""
        if self._timer is not None:
            self._timer.cancel()

    def look(self) -> None:
        """Looks at every worker once."""
        for number, worker in enumerate(self._workers):
            if worker.has_died():
                worker.abandon()
            self._set_progress(number, worker, self._observe(number, worker))

    def describe_busy(self) -> list[str]:
        """Names each replica that is busy, and for how long it has been, for a log line."""
        return [
            f"replica {worker.name} has been busy with one batch for about {seconds:g} s"
            for worker, seconds in zip(self._workers, self._busy_seconds, strict=True)
            if worker.activity.current is not None
        ]

    def _look_again(self) -> None:
        try:
            self.look()
        finally:
            self.start()

    def _observe(self, number: int, worker: WatchedWorker) -> Progress:
        activity = worker.activity.current
        is_same = activity is not None and activity is self._last_seen[number]
        self._last_seen[number] = activity
        self._busy_seconds[number] = self._busy_seconds[number] + self._interval_seconds if is_same else 0.0
        if self._busy_seconds[number] >= HUNG_FACTOR * self._stuck_seconds:
            return Progress.HUNG
        return Progress.STUCK if self._busy_seconds[number] >= self._stuck_seconds else Progress.MOVING

    def _set_progress(self, number: int, worker: WatchedWorker, progress: Progress) -> None:
        if progress is not self._progress[number]:
            self._progress[number] = progress
            if progress is Progress.MOVING:
                log.info("replica %s moves again", worker.name)
            else:
                seconds = self._busy_seconds[number]
                log.error("replica %s is %s: busy with one batch for %g s", worker.name, progress.name.lower(), seconds)
            self._replicas.set_progress(number, progress)
        if progress is not Progress.MOVING:
            self._rescue(worker, progress)

    def _rescue(self, worker: WatchedWorker, progress: Progress) -> None:
        """Lets another replica answer the images, or answers them with an error once nothing else can be expected."""
        if self._replicas.healthy:
            self._queue.requeue(worker.take_back())
        elif progress is Progress.HUNG:
            self._queue.refuse(worker.take_back())
            if not self._replicas.responsive:
                self._queue.fail_waiting()


def stuck_after(largest_batch_seconds: float) -> float:
    """Returns the seconds after which a replica is stuck. The largest batch took so many when the model was loaded."""
    return max(MIN_STUCK_SECONDS, SLOWEST_FACTOR * largest_batch_seconds)
