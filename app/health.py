"""The health that probes report to an orchestrator.

Owns the phases of the service, and which of them are live, ready and started.
"""

from enum import StrEnum


class Phase(StrEnum):
    """The phases of the service.

    unwell: every replica fails its golden check, but some may recover. lost: every replica is given up. stuck: every
    replica that is not given up is busy with one batch for too long. hung: for so long that no end is expected.
    draining: the server shuts down and still accepts connections. closed: it no longer accepts any.
    failed: no model could be loaded.
    """

    LOADING = "loading"
    READY = "ready"
    UNWELL = "unwell"
    DRAINING = "draining"
    CLOSED = "closed"
    FAILED = "failed"
    LOST = "lost"
    STUCK = "stuck"
    HUNG = "hung"


class Health:
    """The current phase and the reason for it. After `draining` only `closed` can follow."""

    def __init__(self) -> None:
        self.phase = Phase.LOADING
        self.reason = "the checkpoint is being loaded"
        self.started = False

    @property
    def live(self) -> bool:
        """Whether the process can make progress. It is true while loading and draining."""
        return self.phase not in (Phase.LOST, Phase.FAILED, Phase.HUNG)

    @property
    def ready(self) -> bool:
        """Whether load balancers should send requests."""
        return self.phase is Phase.READY

    def enter(self, phase: Phase, reason: str = "") -> None:
        """Changes the phase. From `draining` on, only a change to `closed` has an effect."""
        if self.phase in (Phase.DRAINING, Phase.CLOSED) and phase is not Phase.CLOSED:
            return
        self.phase, self.reason = phase, reason
        self.started = self.started or phase is Phase.READY

    def report(self) -> dict[str, str]:
        """Returns the JSON object of a health answer."""
        return {"status": self.phase, "reason": self.reason} if self.reason else {"status": self.phase}
