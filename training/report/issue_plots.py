"""The pictures of likely wrong labels and of near-duplicates, each as the bytes of a PNG file."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor

from training.evaluation.label_issues import LabelIssue
from training.evaluation.near_duplicates import NearDuplicate
from training.report.figure import BLUE, ORANGE, WIDTH, render_to_png, shorten_labels

ISSUE_COLUMNS = 5
PAIR_COLUMNS = 3
HEIGHT_OF_TEXT = 0.6  # inches, above and below an image


@render_to_png
def plot_label_issues(images: Sequence[Tensor], issues: Sequence[LabelIssue], labels: Sequence[str]) -> Figure:
    """(S, S, C) uint8 images. The given label and its probability are above each, the suggested label's below."""
    names = shorten_labels(labels)
    figure, grid = _make_grid(len(images), ISSUE_COLUMNS)
    for axes, image, issue in zip(grid, images, issues, strict=False):
        above = f"{names[issue.given]}  {issue.given_probability:.1%}"
        below = f"{names[issue.suggested]}  {issue.suggested_probability:.1%}"
        _show_image(axes, image, above, below, ORANGE)
    return figure


@render_to_png
def plot_near_duplicates(
    images: Sequence[tuple[Tensor, Tensor]], pairs: Sequence[NearDuplicate], labels: Sequence[str]
) -> Figure:
    """Both (S, S, C) uint8 images of each pair, with their labels above and their splits below.

    Labels that differ are in another colour.
    """
    names = shorten_labels(labels)
    figure, grid = _make_grid(2 * len(pairs), 2 * PAIR_COLUMNS)
    for i, (both, pair) in enumerate(zip(images, pairs, strict=True)):
        colour = BLUE if pair.label == pair.other_label else ORANGE
        captions = ((pair.label, pair.split), (pair.other_label, pair.other_split))
        for axes, image, (label, split) in zip(grid[2 * i : 2 * i + 2], both, captions, strict=True):
            _show_image(axes, image, names[label], split, "black", colour)
    return figure


def _make_grid(count: int, columns: int) -> tuple[Figure, list[Axes]]:
    rows = -(-count // columns)
    figure = Figure((WIDTH, rows * (WIDTH / columns + HEIGHT_OF_TEXT)), layout=ConstrainedLayoutEngine(hspace=0.12))
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid:
        axes.set_axis_off()
    return figure, grid


def _show_image(axes: Axes, image: Tensor, above: str, below: str, colour: str, colour_above: str = BLUE) -> None:
    # "auto" keeps hard pixels if the image is enlarged by 3 or more, and smooths it otherwise.
    axes.imshow(image.expand(-1, -1, 3).numpy(), interpolation="auto")
    axes.set_title(above, color=colour_above, size=9)
    axes.text(0.5, -0.04, below, transform=axes.transAxes, ha="center", va="top", color=colour)
