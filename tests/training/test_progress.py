"""What a run shows: plain lines in a log, a bar on a terminal."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from models.preprocess import Preprocessing
from training.data.dataset import Dataset, Split
from training.data.splits import Duplicates
from training.loop import Step
from training.progress import display, open_console

RECORD = {
    "epoch": 3,
    "train_loss": 0.5,
    "train_accuracy": 0.9,
    "val_loss": 0.25,
    "val_accuracy": 0.95,
    "lr": 0.01,
    "seconds": 1.26,
}
PREPROCESSING = Preprocessing(32, 32, (0.5,) * 3, (0.5,) * 3)
EMPTY = Dataset("folder:x", ("a", "b"), PREPROCESSING, {}, (), Duplicates({}, ()), {})
STEP = Step(epoch=1, epochs=2, number=1, steps=8, images=64, loss=2.3, accuracy=0.125)


def shown(*, terminal: bool) -> str:
    """All that a console gets of three items read, one step and one epoch."""
    file = io.StringIO()
    console = Console(file=file, width=120, force_terminal=terminal, force_interactive=terminal, color_system=None)
    with display(console) as show:
        assert list(show.track("abc", 3, "reading train")) == ["a", "b", "c"]
        show.progress.refresh()
        show.step(STEP)
        show.progress.refresh()
        show.epoch(RECORD)
    return file.getvalue()


def test_a_log_has_one_line_an_epoch() -> None:
    """Without a terminal nothing moves: steps and single images leave no trace."""
    [line] = shown(terminal=False).splitlines()
    assert line == ("epoch   3  loss 0.5000  accuracy 0.9000  val loss 0.2500  val accuracy 0.9500  lr 0.0100  1.3 s")


def test_a_terminal_has_a_live_bar() -> None:
    """It shows what is being read, then epoch, step, loss, accuracy and speed, and keeps the lines."""
    text = shown(terminal=True)
    for part in ("reading train", "3/3", "epoch 1/2", "1/8", "loss 2.3000", "accuracy 0.1250", "images/s", "epoch   3"):
        assert part in text


def test_what_was_left_out_is_named_and_counted() -> None:
    """Each unreadable image has its line, with brackets in its name as they are; no images, no line."""
    file = io.StringIO()
    with display(Console(file=file, width=20)) as show:
        show.dataset(EMPTY)
        show.dataset(replace(EMPTY, unreadable=(Path("cat/[red]1.jpg"), Path("dog/2.jpg"))))
    first, second, last = [line for line in file.getvalue().splitlines() if "left out" in line]
    assert first.endswith("cat/[red]1.jpg")
    assert second.endswith("dog/2.jpg")
    assert last == "  left out, unreadable images: 2"


def test_images_that_are_in_two_splits_are_told() -> None:
    """How many a split repeats is said, and which, for a few."""
    file = io.StringIO()
    with display(Console(file=file, width=20)) as show:
        show.dataset(replace(EMPTY, duplicates=Duplicates({"val": 7}, (("val", "b/1.png", "train", "a/2.png"),))))
    lines = file.getvalue().splitlines()
    assert "  7 images of val have the same pixels as others outside of it" in lines
    assert "  the same pixels: val b/1.png and train a/2.png" in lines


def test_what_was_understood_of_the_data_is_said(tmp_path: Path) -> None:
    """Labels, the images of each split and where they come from, what was passed over, and what contradicts itself."""
    labels = tuple("abcdefghij")
    images = torch.zeros(3, 32, 32, 3, dtype=torch.uint8)
    conflicts = Duplicates({}, (), 1, (("train", "b/1.png", "b", "a/2.png", "a"),))
    splits = {"train": Split(images, torch.tensor([0, 1, 2]))}
    origins = {"train": "given", "test": "none, because there are too few"}
    named = replace(EMPTY, name=f"folder:{tmp_path}/:cat:", labels=labels, splits=splits)
    dataset = replace(named, duplicates=conflicts, origins=origins, notes=("passed over (1): .x",))
    file = io.StringIO()
    with display(Console(file=file, width=20)) as show:
        show.dataset(dataset)
    assert file.getvalue().splitlines() == [
        "folder::cat:: 10 labels: a, b, c, d, e, f, g, h and 2 more",
        "  train             3 images  given",
        "  test                        none, because there are too few",
        "  passed over (1): .x",
        "  1 images have the pixels of another in their split, but another label",
        "  the same pixels: train b/1.png (b) and a/2.png (a)",
    ]


class GoneReader(io.StringIO):
    """A pipe whose reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_reader_that_goes_away_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of hours goes on when its log is closed."""
    monkeypatch.setattr("sys.stderr", GoneReader())
    with display(open_console()) as show:
        show.epoch(RECORD)
        show.epoch(RECORD)
