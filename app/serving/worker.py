"""The thread of one model replica: it takes batches from the queue and answers them.

Owns two reactions to failure: it stops using a replica that fails its golden check, and it hands back the images that
it cannot answer.
"""

import logging
import threading
import time

from app.errors import ServiceError
from app.serving.activity import Activity
from app.serving.computer import BatchComputer, Replica
from app.serving.entry import Batch, Closed, Entry
from app.serving.queue import Queue
from app.serving.replica_set import Condition, ReplicaSet
from models.predictions import Prediction

log = logging.getLogger("vggserve.worker")

OVERFLOW = (
    "The network has no finite logits for this tensor. Its values are far larger than those of normalised pixels."
)
MAX_GOLDEN_CHECKS = 3  # failures in a row after which a replica is given up
MAX_FAULTS = 3  # of the thread itself, outside the model and without an image, after which the replica is given up


class Worker:
    """Answers batches from `start` until the queue is closed and empty, or the replica is given up.

    `number` is the replica's in `replicas`. A replica that was idle for `golden_check_seconds` gets a golden check.
    While it fails, the check is repeated after `retry_seconds`.
    """

    def __init__(
        self,
        replica: Replica,
        number: int,
        queue: Queue,
        replicas: ReplicaSet,
        *,
        golden_check_seconds: float,
        retry_seconds: float,
    ) -> None:
        self.name = replica.name
        self.activity = Activity()
        self._replica = replica
        self._number = number
        self._queue = queue
        self._replicas = replicas
        self._golden_check_seconds = golden_check_seconds
        self._retry_seconds = retry_seconds
        self._computer = BatchComputer(replica, self.activity.begin)
        self._held: list[Entry] = []
        self._lock = threading.Lock()  # of `_held`
        self._faults = 0
        self._is_healthy = True
        self._is_lost = False
        self._has_ended = False
        self._thread = threading.Thread(target=self._run, name=f"model-{replica.name}", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def join(self, seconds: float | None = None) -> bool:
        """Waits until the thread has ended, for at most that long. Returns whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def take_back(self) -> list[Entry]:
        """Returns the images that the thread holds. It will not answer them: its late results are dropped."""
        with self._lock:
            held, self._held = self._held, []
            return held

    def has_died(self) -> bool:
        """Whether the thread has ended without saying so. Must not be called before `start`."""
        return not self._thread.is_alive() and not self._has_ended

    def abandon(self) -> None:
        """Counts the replica as lost and hands back its images, after its thread has died."""
        self._has_ended = True
        self.activity.end()
        self._replicas.set_condition(self._number, Condition.LOST)
        self._queue.requeue(self.take_back())
        if not self._replicas.alive:
            self._queue.fail_waiting()

    def _run(self) -> None:
        try:
            while self._take_step():
                pass
            self._has_ended = True
            self.activity.end()
        except BaseException:  # nothing may end this thread silently
            self.abandon()
            log.critical("the thread of replica %s has died", self.name, exc_info=True)

    def _take_step(self) -> bool:
        """Takes and answers one batch. Returns False at the end of the thread.

        Catches BaseException too: extensions that are written in Rust raise one for a fault of theirs.
        """
        try:
            self.activity.end()
            outcome = self._queue.next_batch(self._computer.max_batch_size, self._golden_check_seconds)
            if isinstance(outcome, Closed):
                return False
            is_answered = isinstance(outcome, Batch) and self._answer(outcome.entries)
            del outcome  # the images' memory is free while the next batch is awaited
            return is_answered or self._recover()
        except BaseException:
            held = self.take_back()
            self._queue.requeue(held)
            self._faults = 0 if held else self._faults + 1
            if self._is_lost:
                raise
            log.exception("the thread of replica %s failed", self.name)
            return self._recover() if self._faults < MAX_FAULTS else self._give_up()

    def _hold(self, entries: list[Entry]) -> None:
        with self._lock:
            self._held = entries

    def _answer(self, entries: list[Entry]) -> bool:
        """Answers a batch. Returns False, with the images back in the queue, if the replica itself is at fault."""
        self._hold(entries)
        started = time.monotonic()
        outcomes = self._computer.compute([entry.pixels for entry in entries if entry.pixels is not None])
        if all(isinstance(outcome, ServiceError) for outcome in outcomes) and not self._passes_golden_check():
            self._queue.requeue(self.take_back())
            return False
        if held := self.take_back():
            self._complete(held, outcomes, time.monotonic() - started)
        self._faults = 0
        return True

    def _complete(self, entries: list[Entry], outcomes: list[Prediction | ServiceError], seconds: float) -> None:
        try:
            self._queue.complete(entries, outcomes, seconds)
        except BaseException:
            self._hold(entries)
            raise

    def _recover(self) -> bool:
        """Repeats the golden check until the replica passes it. Returns False once the replica is given up.

        A replica takes no batch while it fails.
        """
        for _ in range(MAX_GOLDEN_CHECKS):
            if self._passes_golden_check():
                if not self._is_healthy:
                    log.info("replica %s passes its golden check again", self.name)
                    self._is_healthy = True
                    self._replicas.set_condition(self._number, Condition.HEALTHY)
                return True
            if self._is_healthy:
                log.error("replica %s fails its golden check and is taken out", self.name)
                self._is_healthy = False
                self._replicas.set_condition(self._number, Condition.UNHEALTHY)
            self.activity.end()
            time.sleep(self._retry_seconds)
        return self._give_up()

    def _give_up(self) -> bool:
        self._is_lost = True
        log.critical("replica %s is given up for good", self.name)
        self._replicas.set_condition(self._number, Condition.LOST)
        if not self._replicas.alive:
            self._queue.fail_waiting()
        return False

    def _passes_golden_check(self) -> bool:
        self.activity.begin()
        try:
            return self._replica.passes_golden_check()
        except BaseException:
            log.exception("the golden check failed on %s", self.name)
            return False
