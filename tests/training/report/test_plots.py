"""Plots: PNG files of any results and labels. Matplotlib's settings stay unchanged."""

import io

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image

from training.evaluation.errors import Mistake
from training.evaluation.metrics import CoverageResult, ReliabilityBin, reliability_bins
from training.report import plots
from training.report.figure import shorten_labels

EPOCH = {
    "epoch": 1.0,
    "train_loss": 2.0,
    "val_loss": 1.0,
    "train_accuracy": 0.5,
    "val_accuracy": 0.75,
    "lr": 0.1,
}
UNUSUAL_LABELS = ("猫", "$x$", r"$\frac", "a" * 99 + "b" * 99, "line\nbreak", "\ud800", "\x00", " ", "%s", "שלום")


def pixels(png: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """(H, W, 3)."""
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("epochs", [1, 2, 500])
def test_curves_of_any_length(epochs: int) -> None:
    """One epoch is enough."""
    history = [{**EPOCH, "epoch": float(i + 1), "val_loss": 1 / (i + 1)} for i in range(epochs)]
    drawn = pixels(plots.plot_curves(history))
    assert drawn.shape == (624, 1920, 3)
    assert (drawn == (0x2B, 0x6C, 0xA3)).all(2).sum() > 20  # blue points or lines


@pytest.mark.parametrize("classes", [2, 10, 30])
def test_a_confusion_matrix_has_a_cell_for_each_pair(classes: int) -> None:
    """Without mistakes the diagonal is dark, which is about 1/K of the matrix's area."""
    drawn = pixels(
        plots.plot_confusion(7 * torch.eye(classes, dtype=torch.int64), [f"label {i}" for i in range(classes)])
    )
    dark, light = ((drawn == colour).all(2).sum() for colour in ((8, 48, 107), (247, 251, 255)))
    assert dark / (dark + light) == pytest.approx(1 / classes, rel=0.2)


def test_unusual_labels_are_drawn_or_numbered() -> None:
    """Missing glyphs, mathematics, control characters and long labels cause no warning and no error."""
    assert shorten_labels(UNUSUAL_LABELS)[0] == "label 0"
    assert shorten_labels(UNUSUAL_LABELS)[1:5] == ["$x$", r"$\frac", "aaaaaaaaa…bbbbbb", "line break"]
    assert shorten_labels(UNUSUAL_LABELS)[5:9] == ["label 5", "label 6", "label 7", "%s"]
    assert plots.plot_confusion(torch.ones(len(UNUSUAL_LABELS), len(UNUSUAL_LABELS), dtype=torch.int64), UNUSUAL_LABELS)


def test_a_label_without_images_has_an_empty_row() -> None:
    """There is no division by zero."""
    drawn = pixels(plots.plot_confusion(torch.tensor([[4, 0], [0, 0]]), ("a", "b")))
    assert (drawn == (8, 48, 107)).all(2).any()


@pytest.mark.parametrize(("panels", "width"), [(1, 960), (2, 1920)])
def test_the_reliability_diagram_leaves_empty_bins_out(panels: int, width: int) -> None:
    """Bins without images have no mean and no bar. One panel takes half the width."""
    bins = reliability_bins(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 0]))
    assert isinstance(bins[0], ReliabilityBin)
    assert bins[0].images == 0
    assert pixels(plots.plot_reliability({f"panel {i}": bins for i in range(panels)})).shape[1] == width


def test_an_empirical_coverage_of_one() -> None:
    """The share 1 is the upper end of its own interval."""
    results = [CoverageResult(coverage, 1.0, size) for coverage, size in ((0.8, 1.0), (0.99, 812.5))]
    assert pixels(plots.plot_coverage(results, [(0.9, 1.0)] * 2)).shape == (624, 1920, 3)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("side", "count"), [(32, 1), (224, 7)])
def test_mistakes_are_shown_as_images(channels: int, side: int, count: int) -> None:
    """Each image is enlarged and keeps its colour. An image with one channel is grey."""
    images = torch.zeros(count, side, side, channels, dtype=torch.uint8)
    images[..., 0] = torch.arange(count).add(3)[:, None, None] * 20
    mistakes = [Mistake(i, 0, 1, 0.5) for i in range(count)]
    drawn = pixels(plots.plot_mistakes(images, mistakes, ("a", "b")))
    for i in range(count):
        colour = (60 + 20 * i, *((0, 0) if channels == 3 else (60 + 20 * i,) * 2))
        assert (drawn == colour).all(2).sum() > 250**2


def test_settings_of_matplotlib_stay_unchanged() -> None:
    """The user's settings also do not change the plots."""
    drawn = plots.plot_curves([EPOCH])
    with mpl.rc_context({"axes.facecolor": "red", "font.size": 30}):
        assert plots.plot_curves([EPOCH]) == drawn
        assert (mpl.rcParams["axes.facecolor"], mpl.rcParams["font.size"]) == ("red", 30)
        assert mpl.rcParams["text.parse_math"]
