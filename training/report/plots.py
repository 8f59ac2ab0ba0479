"""The report's figures, each a PNG file's bytes.

Owns matplotlib, whose global state it leaves alone, and what the figures look like. Knows nothing of
where the numbers come from.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from itertools import accumulate
from typing import ParamSpec

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, PercentFormatter
from torch import Tensor

from training.evaluation.errors import Mistake
from training.evaluation.metrics import CoverageResult, ReliabilityBin

P = ParamSpec("P")

WIDTH = 10.0  # inches, as wide as the page
DOTS_PER_INCH = 192  # twice what a page has
BLUE, ORANGE, GREY = "#2b6ca3", "#d2601a", "#8a8a8a"
LOOK = {
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "figure.constrained_layout.h_pad": 0.1,  # inches
    "figure.constrained_layout.w_pad": 0.1,
    "font.size": 9,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "text.parse_math": False,  # a label may have dollars in it
}
LONGEST_NAME = 16  # characters
MOST_MARKED = 30  # points on a line
COLUMNS = 5  # of pictures


def _drawn(draw: Callable[P, Figure]) -> Callable[P, bytes]:
    """Gives a function that draws a figure matplotlib's own defaults, whatever the user's are, and its PNG."""

    @wraps(draw)
    def png(*args: P.args, **kwargs: P.kwargs) -> bytes:
        with style.context(["default", LOOK]):
            figure, file = draw(*args, **kwargs), io.BytesIO()
            FigureCanvasAgg(figure)
            figure.savefig(file, format="png", dpi=DOTS_PER_INCH)
        return file.getvalue()

    return png


@_drawn
def curves(history: Sequence[Mapping[str, float]]) -> Figure:
    """Loss, accuracy and rate over the epochs, of which there is at least one."""
    figure = Figure((WIDTH, 3.25), layout="constrained")
    loss, accuracy, rate = figure.subplots(1, 3)
    _lines(loss, history, "loss", {"train_loss": "training", "val_loss": "validation"})
    _lines(accuracy, history, "accuracy", {"train_accuracy": "training", "val_accuracy": "validation"})
    accuracy.yaxis.set_major_formatter(PercentFormatter(1))
    _lines(rate, history, "learning rate", {"rate": "rate"})
    figure.legend(*loss.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


@_drawn
def comparison(histories: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Runs' accuracy on `val` by name, over their epochs and over their time."""
    figure = Figure((WIDTH, 4.0), layout="constrained")
    by_epoch, by_time = figure.subplots(1, 2, sharey=True)
    for name, history in histories.items():
        accuracies = [record["val_accuracy"] for record in history]
        minutes = list(accumulate(record["seconds"] / 60 for record in history))
        for axes, positions in ((by_epoch, [record["epoch"] for record in history]), (by_time, minutes)):
            axes.plot(positions, accuracies, marker="o", markersize=3, label=name)
    by_epoch.set(xlabel="epoch", ylabel="validation accuracy")
    by_time.set(xlabel="minutes")
    by_epoch.yaxis.set_major_formatter(PercentFormatter(1))
    by_epoch.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(*by_epoch.get_legend_handles_labels(), loc="outside lower center", ncols=len(histories))
    return figure


@_drawn
def confusion(counts: Tensor, labels: Sequence[str]) -> Figure:
    """(K, K) counts, a row for each right label and a column for each given one, shaded by the row's share."""
    names, side = _names(labels), min(max(0.42 * len(labels) + 1.6, 4.0), WIDTH)
    figure = Figure((side, side), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(visible=False)
    shares = counts.double() / counts.sum(dim=1, keepdim=True).clamp(min=1)
    # Under the root a mistake of 2 % still has a shade to be seen by.
    axes.imshow(shares.numpy(), cmap="Blues", norm=PowerNorm(0.5, 0, 1))
    axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 2 else 0)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("given label", labelpad=8)
    axes.set_ylabel("right label", labelpad=8)
    for row, column in counts.nonzero().tolist():
        colour = "white" if shares[row, column] > 0.3 else "black"
        axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", color=colour, size=8)
    return figure


@_drawn
def reliability(panels: Mapping[str, Sequence[ReliabilityBin]]) -> Figure:
    """Bins by title: how often the top label is right, by its probability, and how many images have that."""
    figure = Figure((WIDTH / 2 * len(panels), 4.5), layout="constrained")
    grid = figure.subplots(2, len(panels), sharex=True, sharey="row", height_ratios=[3, 1], squeeze=False)
    for (title, bins), (above, below) in zip(panels.items(), grid.T, strict=True):
        _reliability(above, below, bins)
        above.set_title(title)
    return figure


def _reliability(above: Axes, below: Axes, bins: Sequence[ReliabilityBin]) -> None:
    total, filled = sum(b.images for b in bins), [b for b in bins if b.images]
    middles, widths = [(b.low + b.high) / 2 for b in filled], [b.high - b.low for b in filled]
    confidences, accuracies = [b.confidence for b in filled], [b.accuracy for b in filled]
    above.bar(middles, accuracies, widths, color=BLUE, alpha=0.75, edgecolor="white")
    above.vlines(confidences, confidences, accuracies, ORANGE, linewidth=2)
    above.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1)
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that is right")
    below.bar(middles, [b.images / total for b in filled], widths, color=GREY, edgecolor="white")
    below.set(xlabel="probability of the top label", ylabel="images")
    for axis in (above.yaxis, below.yaxis, below.xaxis):
        axis.set_major_formatter(PercentFormatter(1))
    for axes in (above, below):
        axes.label_outer()


@_drawn
def coverage(coverage_results: Sequence[CoverageResult], intervals: Sequence[tuple[float, float]]) -> Figure:
    """What was asked for and what was kept, with the interval of each, and how many labels that took."""
    figure = Figure((WIDTH, 3.25), layout="constrained")
    kept, sizes = figure.subplots(1, 2)
    places, names = range(len(coverage_results)), [f"{p.coverage:.0%}" for p in coverage_results]
    shares = [p.empirical for p in coverage_results]
    errors = [[k - low for k, (low, _) in zip(shares, intervals, strict=True)]]
    errors.append([high - k for k, (_, high) in zip(shares, intervals, strict=True)])
    kept.scatter(places, [p.coverage for p in coverage_results], 700, GREY, marker="_", label="asked for")
    kept.errorbar(places, shares, errors, color=BLUE, fmt="o", capsize=4, label="kept, with its 95% interval")
    figure.legend(*kept.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    kept.set_title("share of sets with the right label")
    kept.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    bars = sizes.bar(places, [p.mean_size for p in coverage_results], 0.5, color=BLUE)
    sizes.bar_label(bars, fmt="%.2f", padding=2)
    sizes.set_title("labels in a set, on average")
    sizes.margins(y=0.15)
    for axes in (kept, sizes):
        axes.set_xticks(places, names)
        axes.set(xlabel="coverage asked for", xlim=(-0.5, len(coverage_results) - 0.5))
        axes.grid(visible=False, axis="x")
    return figure


@_drawn
def mistakes(images: Tensor, wrong: Sequence[Mistake], labels: Sequence[str]) -> Figure:
    """(N, S, S, C) uint8 images, each below its right label and above the given one and its probability."""
    names, rows = _names(labels), -(-len(images) // COLUMNS)
    figure = Figure((WIDTH, 2.5 * rows), layout=ConstrainedLayoutEngine(hspace=0.12))
    grid = figure.subplots(rows, COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, mistake in zip(grid.flat, images, wrong, strict=False):
        # Nearest where it is enlarged three times or more, smooth where nearest would show steps that are not there.
        axes.imshow(image.expand(-1, -1, 3).numpy(), interpolation="auto")
        axes.set_title(names[mistake.true], color=BLUE, size=9)
        caption = f"{names[mistake.predicted]}  {mistake.probability:.1%}"
        axes.text(0.5, -0.04, caption, transform=axes.transAxes, ha="center", va="top", color=ORANGE)
    return figure


def _lines(axes: Axes, history: Sequence[Mapping[str, float]], title: str, names: dict[str, str]) -> None:
    epochs, marker = [r["epoch"] for r in history], "." if len(history) <= MOST_MARKED else ""
    for (key, name), colour in zip(names.items(), (BLUE, ORANGE), strict=False):
        axes.plot(epochs, [r[key] for r in history], color=colour, marker=marker, label=name)
    axes.set(title=title, xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _names(labels: Sequence[str]) -> list[str]:
    """The labels on one line, without their middle if they are long; for what the font cannot show, the index."""
    known = get_font(findfont(FontProperties())).get_charmap()
    names = []
    for i, label in enumerate(labels):
        name = " ".join(label.split())
        if not name or any(ord(character) not in known for character in name):
            name = f"label {i}"
        names.append(name if len(name) <= LONGEST_NAME else f"{name[:9]}…{name[-6:]}")
    return names
