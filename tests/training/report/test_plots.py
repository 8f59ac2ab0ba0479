"""Figures: PNGs that show what they are given, whatever it is, and leave matplotlib as it was."""

import io

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image

from training.evaluation.errors import Mistake
from training.evaluation.metrics import CoverageResult, ReliabilityBin, reliability_bins
from training.report import plots

EPOCH = {
    "epoch": 1.0,
    "train_loss": 2.0,
    "val_loss": 1.0,
    "train_accuracy": 0.5,
    "val_accuracy": 0.75,
    "rate": 0.1,
}
AWKWARD = ("猫", "$x$", r"$\frac", "a" * 99 + "b" * 99, "line\nbreak", "\ud800", "\x00", " ", "%s", "שלום")


def pixels(png: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """(H, W, 3)."""
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("epochs", [1, 2, 500])
def test_curves_of_any_length(epochs: int) -> None:
    """One epoch is enough, and more of them make another picture."""
    history = [{**EPOCH, "epoch": float(i + 1), "val_loss": 1 / (i + 1)} for i in range(epochs)]
    drawn = pixels(plots.curves(history))
    assert drawn.shape == (624, 1920, 3)
    assert (drawn == (0x2B, 0x6C, 0xA3)).all(2).sum() > 20  # blue points or lines


@pytest.mark.parametrize("classes", [2, 10, 30])
def test_a_confusion_matrix_has_a_cell_for_each_pair(classes: int) -> None:
    """Labels that are never mistaken leave a dark diagonal: about 1/K of the matrix's area."""
    drawn = pixels(plots.confusion(7 * torch.eye(classes, dtype=torch.int64), [f"label {i}" for i in range(classes)]))
    dark, light = ((drawn == colour).all(2).sum() for colour in ((8, 48, 107), (247, 251, 255)))
    assert dark / (dark + light) == pytest.approx(1 / classes, rel=0.2)


def test_awkward_names_are_drawn_or_numbered() -> None:
    """Glyphs that the font lacks, mathematics, control characters and great length neither warn nor fail."""
    assert plots._names(AWKWARD)[0] == "label 0"
    assert plots._names(AWKWARD)[1:5] == ["$x$", r"$\frac", "aaaaaaaaa…bbbbbb", "line break"]
    assert plots._names(AWKWARD)[5:9] == ["label 5", "label 6", "label 7", "%s"]
    assert plots.confusion(torch.ones(len(AWKWARD), len(AWKWARD), dtype=torch.int64), AWKWARD)


def test_a_label_without_images_has_an_empty_row() -> None:
    """Nothing is divided by zero."""
    drawn = pixels(plots.confusion(torch.tensor([[4, 0], [0, 0]]), ("a", "b")))
    assert (drawn == (8, 48, 107)).all(2).any()


@pytest.mark.parametrize(("panels", "width"), [(1, 960), (2, 1920)])
def test_reliability_leaves_empty_bins_out(panels: int, width: int) -> None:
    """Bins without images have no mean, and no bar; one panel takes half the width."""
    bins = reliability_bins(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 0]))
    assert isinstance(bins[0], ReliabilityBin)
    assert bins[0].images == 0
    assert pixels(plots.reliability({f"panel {i}": bins for i in range(panels)})).shape[1] == width


def test_a_coverage_that_is_kept_to_the_last_image() -> None:
    """The share 1 is the upper end of its own interval."""
    promises = [CoverageResult(coverage, 1.0, size) for coverage, size in ((0.8, 1.0), (0.99, 812.5))]
    assert pixels(plots.coverage(promises, [(0.9, 1.0)] * 2)).shape == (624, 1920, 3)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("side", "count"), [(32, 1), (224, 7)])
def test_mistakes_are_shown_as_pictures(channels: int, side: int, count: int) -> None:
    """Each image is there, large, in its own colour, or grey where it has one channel."""
    images = torch.zeros(count, side, side, channels, dtype=torch.uint8)
    images[..., 0] = torch.arange(count).add(3)[:, None, None] * 20
    wrong = [Mistake(i, 0, 1, 0.5) for i in range(count)]
    drawn = pixels(plots.mistakes(images, wrong, ("a", "b")))
    for i in range(count):
        colour = (60 + 20 * i, *((0, 0) if channels == 3 else (60 + 20 * i,) * 2))
        assert (drawn == colour).all(2).sum() > 250**2


def test_matplotlib_is_left_as_it_was() -> None:
    """The user's settings survive, and change nothing."""
    drawn = plots.curves([EPOCH])
    with mpl.rc_context({"axes.facecolor": "red", "font.size": 30}):
        assert plots.curves([EPOCH]) == drawn
        assert (mpl.rcParams["axes.facecolor"], mpl.rcParams["font.size"]) == ("red", 30)
        assert mpl.rcParams["text.parse_math"]
