"""TensorBoard's view of a run, on request.

Owns the writing of its files.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from training.loop import Callback, Record, Step


class TensorBoard:
    """Passes everything on to another callback, and writes each value of an epoch's record as a scalar."""

    def __init__(self, callback: Callback, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter  # here because tensorboard may not be installed

        self.callback = callback
        self.writer = SummaryWriter(folder)

    def step(self, step: Step) -> None:
        self.callback.step(step)

    def epoch(self, record: Record) -> None:
        self.callback.epoch(record)
        for name, value in record.items():
            if name != "epoch":
                self.writer.add_scalar(name, value, int(record["epoch"]))


@contextmanager
def record_to_tensorboard(callback: Callback, folder: Path | None) -> Iterator[Callback]:
    """`callback`, or a TensorBoard before it if there is a folder, while the block runs."""
    if folder is None:
        yield callback
        return
    events = TensorBoard(callback, folder)
    try:
        yield events
    finally:
        events.writer.close()
