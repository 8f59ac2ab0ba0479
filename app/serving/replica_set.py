"""The state of each replica of one model, and how many of them can answer.

Owns both halves of a state: whether the replica answers rightly, and whether it comes to the end of its work.
"""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum


class Condition(Enum):
    """Whether a replica answers rightly. Its worker says so.

    healthy: it passes its golden check. unhealthy: it fails it and may recover. lost: it will not be used again.
    """

    HEALTHY = 0
    UNHEALTHY = 1
    LOST = 2


class Progress(Enum):
    """Whether a replica comes to the end of its work. The watchdog says so.

    stuck: it has been busy with one batch for too long. hung: for so long that no end is expected.
    """

    MOVING = 0
    STUCK = 1
    HUNG = 2


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """The state of one replica."""

    condition: Condition = Condition.HEALTHY
    progress: Progress = Progress.MOVING

    @property
    def alive(self) -> bool:
        """Whether it is not lost."""
        return self.condition is not Condition.LOST


class ReplicaSet:
    """Counts the replicas by their state. All start healthy and moving.

    `healthy` counts those that are healthy and moving. `alive` counts those that are not lost, `stuck` those of them
    that are stuck or hung, and `responsive` those of them that are not hung. Made on the event loop; any thread may
    call it. `on_change` is called on the loop after each change.
    """

    def __init__(self, replicas: int, on_change: Callable[[], None]) -> None:
        self.healthy = self.alive = self.responsive = replicas
        self.stuck = 0
        self._states = [ReplicaState()] * replicas
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()

    def set_condition(self, number: int, condition: Condition) -> None:
        """Replica `number`, counted from 0, passes or fails its golden check, or is given up for good."""
        with self._lock:
            if self._states[number].alive:
                self._set(number, replace(self._states[number], condition=condition))

    def set_progress(self, number: int, progress: Progress) -> None:
        """Replica `number` is found stuck, hung, or moving again."""
        with self._lock:
            self._set(number, replace(self._states[number], progress=progress))

    def _set(self, number: int, state: ReplicaState) -> None:
        self._states[number] = state
        alive = [other for other in self._states if other.alive]
        self.alive = len(alive)
        self.healthy = self._states.count(ReplicaState())
        self.stuck = sum(state.progress is not Progress.MOVING for state in alive)
        self.responsive = sum(state.progress is not Progress.HUNG for state in alive)
        self._loop.call_soon_threadsafe(self._on_change)
