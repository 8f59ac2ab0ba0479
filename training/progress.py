"""What a run shows while it works: a live bar on a terminal, else one plain line an epoch."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TypeVar, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from training.data.dataset import Dataset
from training.data.items import list_some
from training.data.splits import Duplicates
from training.loop import Record, Step
from training.results import name_data
from training.streams import TolerantStream

T = TypeVar("T")
MAX_NAMED = 20  # of the images that were left out


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

    def dataset(self, dataset: Dataset) -> None:
        """What was understood of the data: labels, splits, what was passed over or left out, and what is doubtful."""
        self._print(f"{name_data(dataset.name)}: {len(dataset.labels):,} labels: {list_some(dataset.labels, 8)}")
        for name, origin in dataset.origins.items():
            images = f"{len(dataset.splits[name]):7,} images" if name in dataset.splits else " " * 14
            self._print(f"  {name:11} {images}  {origin}")
        for note in dataset.notes:
            self._print(f"  {note}")
        for path in dataset.unreadable[:MAX_NAMED]:
            self._print(f"  left out, cannot be read as an image: {path}")
        if dataset.unreadable:
            self._print(f"  left out, unreadable images: {len(dataset.unreadable):,}")
        self._duplicates(dataset.duplicates)

    def _duplicates(self, duplicates: Duplicates) -> None:
        for split, count in duplicates.counts.items():
            self._print(f"  {count:,} images of {split} have the same pixels as others outside of it")
        for split, name, other, other_name in duplicates.examples:
            self._print(f"  the same pixels: {split} {name} and {other} {other_name}")
        if duplicates.conflicts:
            self._print(
                f"  {duplicates.conflicts:,} images have the pixels of another in their split, but another label"
            )
        for split, name, label, other_name, other_label in duplicates.conflict_examples:
            self._print(f"  the same pixels: {split} {name} ({label}) and {other_name} ({other_label})")

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
        self.progress.console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)


def open_console(*, quiet: bool = False) -> Console:
    """A console on stderr. A reader of stderr that goes away does not end the run."""
    return Console(file=cast(IO[str], TolerantStream(sys.stderr)), quiet=quiet)


@contextmanager
def display(console: Console) -> Iterator[Display]:
    """A display on that console, with a live bar while the block runs, if it is a terminal."""
    columns = ("{task.description}", BarColumn(), "{task.fields[state]}", TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield Display(progress)
