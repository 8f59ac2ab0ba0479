"""What the service says of itself to an orchestrator.

Owns the phases of its life and which of them are live, ready and started. Knows nothing of HTTP.
"""

from enum import StrEnum


class Phase(StrEnum):
    """`unwell`: every replica fails its golden check, some may recover; `lost`: all are given up.

    `closed` is the end of draining: the server no longer accepts. `failed`: no model could be loaded.
    """

    LOADING = "loading"
    READY = "ready"
    UNWELL = "unwell"
    DRAINING = "draining"
    CLOSED = "closed"
    FAILED = "failed"
    LOST = "lost"


class Health:
    """One phase at a time, with the reason for it. Draining is never left again but for closing."""

    def __init__(self) -> None:
        self.phase = Phase.LOADING
        self.reason = "the checkpoint is being loaded"
        self.started = False

    @property
    def live(self) -> bool:
        """Whether the process can make progress; loading and draining are progress."""
        return self.phase not in (Phase.LOST, Phase.FAILED)

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here."""
        return self.phase is Phase.READY

    def enter(self, phase: Phase, reason: str = "") -> None:
        """Goes to `phase`, unless draining has begun and `phase` is an earlier one."""
        if self.phase in (Phase.DRAINING, Phase.CLOSED) and phase is not Phase.CLOSED:
            return
        self.phase, self.reason = phase, reason
        self.started = self.started or phase is Phase.READY

    def report(self) -> dict[str, str]:
        """The JSON of a health answer."""
        return {"status": self.phase, "reason": self.reason} if self.reason else {"status": self.phase}
