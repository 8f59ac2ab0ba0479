"""What a run shows while it works: a live bar on a terminal, else one plain line an epoch."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from training.data.dataset import Dataset
from training.loop import Record, Step

T = TypeVar("T")


class Display:
    """Shows the reading of images (`track`) and the training (`step`, `epoch`)."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.task = progress.add_task("", total=None, visible=False, state="")

    def track(self, items: Iterable[T], total: int, doing: str) -> Iterator[T]:
        """Passes `items` through, counting them."""
        self.progress.reset(self.task, description=doing, total=total, visible=True, state="")
        for count, item in enumerate(items, start=1):
            self.progress.update(self.task, completed=count, state=f"{count}/{total}")
            yield item

    def _unreadable(self, paths: Sequence[Path]) -> None:
        for path in paths:
            self._print(f"left out, cannot be read as an image: {path}")
        if paths:
            self._print(f"left out {len(paths)} unreadable images")

    def dataset(self, dataset: Dataset) -> None:
        """What there is to learn from, what was left out, and what is wrong with how it is split."""
        self._unreadable(dataset.unreadable)
        self._print("  ".join(f"{name} {len(split)}" for name, split in dataset.splits.items()) + " images")
        if "calibration" not in dataset.splits:
            self._print("no calibration split, so there will be no prediction sets")
        for split, count in dataset.duplicates.counts.items():
            self._print(f"{count} images of {split} have the same pixels as others outside of it")
        for split, name, other, other_name in dataset.duplicates.examples:
            self._print(f"the same pixels: {split} {name} and {other} {other_name}")

    def start(self, line: str) -> None:
        """What was taken of the weights that the run starts from."""
        self._print(line)

    def step(self, step: Step) -> None:
        """One step of training."""
        if step.number == 1:
            self.progress.reset(self.task, total=step.steps, visible=True)
        speed = (self.progress.tasks[0].speed or 0) * step.images
        state = f"{step.number}/{step.steps}  loss {step.loss:.4f}  accuracy {step.accuracy:.4f}  {speed:,.0f} images/s"
        description = f"epoch {step.epoch}/{step.epochs}"
        self.progress.update(self.task, description=description, completed=step.number, state=state)

    def epoch(self, record: Record, name: str = "") -> None:
        """One whole epoch, of the run `name` where there are several."""
        line = (
            f"epoch {record['epoch']:3}  loss {record['train_loss']:.4f}  accuracy {record['train_accuracy']:.4f}  "
            f"val loss {record['val_loss']:.4f}  val accuracy {record['val_accuracy']:.4f}  "
            f"lr {record['lr']:.4f}  {record['seconds']:.1f} s"
        )
        self._print(f"{name}  {line}" if name else line)

    def _print(self, line: str) -> None:
        self.progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def display(console: Console) -> Iterator[Display]:
    """A display on that console, with a live bar while the block runs, if it is a terminal."""
    columns = ("{task.description}", BarColumn(), "{task.fields[state]}", TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield Display(progress)
