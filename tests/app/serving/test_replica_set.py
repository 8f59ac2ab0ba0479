"""The states of replicas, and how many can answer."""

import asyncio
import threading

import pytest

from app.serving.replica_set import Condition, Progress, ReplicaSet

pytestmark = pytest.mark.anyio


def counts(replicas: ReplicaSet) -> tuple[int, int, int, int]:
    return replicas.healthy, replicas.alive, replicas.responsive, replicas.stuck


async def test_changes_are_told_on_the_event_loop() -> None:
    """A change that another thread makes calls `on_change` on the loop, when the counts are already new."""
    seen: list[tuple[int, int, bool]] = []
    told = asyncio.Event()
    loop_thread = threading.current_thread()

    def on_change() -> None:
        seen.append((replicas.healthy, replicas.alive, threading.current_thread() is loop_thread))
        told.set()

    replicas = ReplicaSet(2, on_change)
    for condition in (Condition.UNHEALTHY, Condition.HEALTHY, Condition.UNHEALTHY, Condition.LOST):
        told.clear()
        await asyncio.to_thread(replicas.set_condition, 0, condition)
        await told.wait()
    assert seen == [(1, 2, True), (2, 2, True), (1, 2, True), (1, 1, True)]


async def test_a_replica_answers_only_if_it_is_healthy_and_moves() -> None:
    """Golden checks and progress are told apart: a stuck replica that moves again is as healthy as it was before."""
    replicas = ReplicaSet(2, lambda: None)
    assert counts(replicas) == (2, 2, 2, 0)
    replicas.set_progress(0, Progress.STUCK)
    assert counts(replicas) == (1, 2, 2, 1)
    replicas.set_progress(0, Progress.HUNG)
    assert counts(replicas) == (1, 2, 1, 1)
    replicas.set_condition(1, Condition.UNHEALTHY)
    assert counts(replicas) == (0, 2, 1, 1)
    replicas.set_progress(0, Progress.MOVING)
    assert counts(replicas) == (1, 2, 2, 0)


async def test_a_lost_replica_stays_lost() -> None:
    """What its thread or the watchdog says later does not bring it back."""
    replicas = ReplicaSet(1, lambda: None)
    replicas.set_condition(0, Condition.LOST)
    replicas.set_condition(0, Condition.HEALTHY)
    replicas.set_progress(0, Progress.STUCK)
    assert counts(replicas) == (0, 0, 0, 0)
