"""How many replicas can answer."""

import asyncio
import threading

import pytest

from app.serving.replica_set import ReplicaSet

pytestmark = pytest.mark.anyio


async def test_changes_are_told_on_the_event_loop() -> None:
    """A change that another thread makes calls `on_change` on the loop, when the counts are already new."""
    seen: list[tuple[int, int, bool]] = []
    told = asyncio.Event()
    loop_thread = threading.current_thread()

    def on_change() -> None:
        seen.append((replicas.healthy, replicas.alive, threading.current_thread() is loop_thread))
        told.set()

    replicas = ReplicaSet(2, on_change)
    for change in (replicas.mark_unhealthy, replicas.mark_healthy, replicas.mark_unhealthy, replicas.mark_lost):
        told.clear()
        await asyncio.to_thread(change)
        await told.wait()
    assert seen == [(1, 2, True), (2, 2, True), (1, 2, True), (1, 1, True)]
