"""The phases of the service's life."""

import pytest

from app.health import Health, Phase


@pytest.mark.parametrize(
    ("phase", "live", "ready"),
    [
        (Phase.LOADING, True, False),
        (Phase.READY, True, True),
        (Phase.UNWELL, True, False),
        (Phase.DRAINING, True, False),
        (Phase.CLOSED, True, False),
        (Phase.FAILED, False, False),
        (Phase.LOST, False, False),
        (Phase.STUCK, True, False),
        (Phase.HUNG, False, False),
    ],
)
def test_liveness_and_readiness_of_each_phase(phase: Phase, live: bool, ready: bool) -> None:
    """Only `ready` is ready; all phases but `failed`, `lost` and `hung` are live."""
    health = Health()
    health.enter(phase)
    assert (health.live, health.ready) == (live, ready)


def test_started_stays() -> None:
    """Once ready, a service has started for good."""
    health = Health()
    assert not health.started
    health.enter(Phase.READY)
    health.enter(Phase.UNWELL, "a golden check failed")
    assert health.started


def test_draining_is_never_left() -> None:
    """A model that becomes ready while the server drains does not undo it."""
    health = Health()
    health.enter(Phase.DRAINING, "the server is shutting down")
    health.enter(Phase.READY)
    assert health.report()["status"] == "draining"
    health.enter(Phase.CLOSED)
    health.enter(Phase.READY)
    assert health.report()["status"] == "closed"


def test_a_report_has_a_reason_where_there_is_one() -> None:
    """Ready needs no reason, everything else has one."""
    health = Health()
    assert health.report() == {"status": "loading", "reason": "the checkpoint is being loaded"}
    health.enter(Phase.READY)
    assert health.report() == {"status": "ready"}
