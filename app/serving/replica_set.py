"""How many replicas of one model can answer."""

import asyncio
import threading
from collections.abc import Callable


class ReplicaSet:
    """Counts the replicas that are healthy, and those that are alive. All start as both.

    A healthy replica passes its golden check. One that fails it is unhealthy, but stays alive while it may recover.
    Made on the event loop; any thread may call it. `on_change` is called on the loop after each change.
    """

    def __init__(self, replicas: int, on_change: Callable[[], None]) -> None:
        self.alive = self.healthy = replicas
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()

    def mark_unhealthy(self) -> None:
        """A healthy replica has failed its golden check."""
        self._add(healthy=-1)

    def mark_healthy(self) -> None:
        """An unhealthy replica has recovered."""
        self._add(healthy=1)

    def mark_lost(self) -> None:
        """An unhealthy replica will not be used again."""
        self._add(alive=-1)

    def _add(self, *, healthy: int = 0, alive: int = 0) -> None:
        with self._lock:
            self.healthy += healthy
            self.alive += alive
        self._loop.call_soon_threadsafe(self._on_change)
