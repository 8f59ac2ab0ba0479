"""TensorBoard's view of a run, on request.

Owns the writing of its files.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from training.loop import Callback, Record, Step


class TensorBoard:
    """Passes everything on to `watch`, and writes each epoch's record as one scalar a name."""

    def __init__(self, watch: Callback, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter  # here because tensorboard may not be installed

        self.watch = watch
        self.writer = SummaryWriter(folder)

    def step(self, step: Step) -> None:
        self.watch.step(step)

    def epoch(self, record: Record) -> None:
        self.watch.epoch(record)
        for name, value in record.items():
            if name != "epoch":
                self.writer.add_scalar(name, value, int(record["epoch"]))


@contextmanager
def record_to_tensorboard(watch: Callback, folder: Path | None) -> Iterator[Callback]:
    """`watch`, and a Board before it if there is a folder for one, while the block runs."""
    if folder is None:
        yield watch
        return
    board = TensorBoard(watch, folder)
    try:
        yield board
    finally:
        board.writer.close()
