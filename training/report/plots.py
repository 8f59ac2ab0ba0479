"""The plots of the report and of `training.compare`, each as the bytes of a PNG file."""

from collections.abc import Mapping, Sequence
from itertools import accumulate

from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, PercentFormatter
from torch import Tensor

from training.evaluation.errors import Mistake
from training.evaluation.metrics import CoverageResult, ReliabilityBin
from training.report.figure import BLUE, GREY, ORANGE, WIDTH, render_to_png, shorten_labels

MAX_MARKED_POINTS = 30  # a line with more points has no markers
MISTAKE_COLUMNS = 5


@render_to_png
def plot_curves(history: Sequence[Mapping[str, float]]) -> Figure:
    """Loss, accuracy and learning rate by epoch. There is at least one epoch."""
    figure = Figure((WIDTH, 3.25), layout="constrained")
    loss, accuracy, lr = figure.subplots(1, 3)
    _plot_lines(loss, history, "loss", {"train_loss": "training", "val_loss": "validation"})
    _plot_lines(accuracy, history, "accuracy", {"train_accuracy": "training", "val_accuracy": "validation"})
    accuracy.yaxis.set_major_formatter(PercentFormatter(1))
    _plot_lines(lr, history, "learning rate", {"lr": "learning rate"})
    figure.legend(*loss.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


@render_to_png
def plot_comparison(histories: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """The validation accuracy of several runs, by epoch and by training time. `histories` is by the run's name."""
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


@render_to_png
def plot_confusion(counts: Tensor, labels: Sequence[str]) -> Figure:
    """(K, K) counts: a row for each true label, a column for each predicted one, coloured by share of the row."""
    names, side = shorten_labels(labels), min(max(0.42 * len(labels) + 1.6, 4.0), WIDTH)
    figure = Figure((side, side), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(visible=False)
    shares = counts.double() / counts.sum(dim=1, keepdim=True).clamp(min=1)
    # The square root of the share makes a mistake of 2 % visible.
    axes.imshow(shares.numpy(), cmap="Blues", norm=PowerNorm(0.5, 0, 1))
    axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 2 else 0)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted label", labelpad=8)
    axes.set_ylabel("true label", labelpad=8)
    for row, column in counts.nonzero().tolist():
        colour = "white" if shares[row, column] > 0.3 else "black"
        axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", color=colour, size=8)
    return figure


@render_to_png
def plot_reliability(panels: Mapping[str, Sequence[ReliabilityBin]]) -> Figure:
    """A panel for each title: the accuracy of each bin, and below it the bin's share of the images."""
    figure = Figure((WIDTH / 2 * len(panels), 4.5), layout="constrained")
    grid = figure.subplots(2, len(panels), sharex=True, sharey="row", height_ratios=[3, 1], squeeze=False)
    for (title, bins), (above, below) in zip(panels.items(), grid.T, strict=True):
        _plot_bins(above, below, bins)
        above.set_title(title)
    return figure


def _plot_bins(above: Axes, below: Axes, bins: Sequence[ReliabilityBin]) -> None:
    total, filled = sum(b.images for b in bins), [b for b in bins if b.images]
    middles, widths = [(b.low + b.high) / 2 for b in filled], [b.high - b.low for b in filled]
    confidences, accuracies = [b.confidence for b in filled], [b.accuracy for b in filled]
    above.bar(middles, accuracies, widths, color=BLUE, alpha=0.75, edgecolor="white")
    above.vlines(confidences, confidences, accuracies, ORANGE, linewidth=2)
    above.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1)
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    below.bar(middles, [b.images / total for b in filled], widths, color=GREY, edgecolor="white")
    below.set(xlabel="probability of the top label", ylabel="share of images")
    for axis in (above.yaxis, below.yaxis, below.xaxis):
        axis.set_major_formatter(PercentFormatter(1))
    for axes in (above, below):
        axes.label_outer()


@render_to_png
def plot_coverage(results: Sequence[CoverageResult], intervals: Sequence[tuple[float, float]]) -> Figure:
    """Requested and empirical coverage with its interval, and the mean size of the prediction sets."""
    figure = Figure((WIDTH, 3.25), layout="constrained")
    shares, sizes = figure.subplots(1, 2)
    positions, names = range(len(results)), [f"{r.coverage:.0%}" for r in results]
    empirical = [r.empirical for r in results]
    errors = [[share - low for share, (low, _) in zip(empirical, intervals, strict=True)]]
    errors.append([high - share for share, (_, high) in zip(empirical, intervals, strict=True)])
    shares.scatter(positions, [r.coverage for r in results], 700, GREY, marker="_", label="requested")
    shares.errorbar(positions, empirical, errors, color=BLUE, fmt="o", capsize=4, label="empirical, with 95% interval")
    figure.legend(*shares.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    shares.set_title("share of sets with the true label")
    shares.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    bars = sizes.bar(positions, [r.mean_size for r in results], 0.5, color=BLUE)
    sizes.bar_label(bars, fmt="%.2f", padding=2)
    sizes.set_title("mean labels per set")
    sizes.margins(y=0.15)
    for axes in (shares, sizes):
        axes.set_xticks(positions, names)
        axes.set(xlabel="requested coverage", xlim=(-0.5, len(results) - 0.5))
        axes.grid(visible=False, axis="x")
    return figure


@render_to_png
def plot_mistakes(images: Tensor, mistakes: Sequence[Mistake], labels: Sequence[str]) -> Figure:
    """(N, S, S, C) uint8 images. The true label is above each, the predicted one and its probability below."""
    names, rows = shorten_labels(labels), -(-len(images) // MISTAKE_COLUMNS)
    figure = Figure((WIDTH, 2.5 * rows), layout=ConstrainedLayoutEngine(hspace=0.12))
    grid = figure.subplots(rows, MISTAKE_COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, mistake in zip(grid.flat, images, mistakes, strict=False):
        # "auto" keeps hard pixels if the image is enlarged by 3 or more, and smooths it otherwise.
        axes.imshow(image.expand(-1, -1, 3).numpy(), interpolation="auto")
        axes.set_title(names[mistake.true], color=BLUE, size=9)
        caption = f"{names[mistake.predicted]}  {mistake.probability:.1%}"
        axes.text(0.5, -0.04, caption, transform=axes.transAxes, ha="center", va="top", color=ORANGE)
    return figure


def _plot_lines(axes: Axes, history: Sequence[Mapping[str, float]], title: str, names: dict[str, str]) -> None:
    epochs, marker = [r["epoch"] for r in history], "." if len(history) <= MAX_MARKED_POINTS else ""
    for (key, name), colour in zip(names.items(), (BLUE, ORANGE), strict=False):
        axes.plot(epochs, [r[key] for r in history], color=colour, marker=marker, label=name)
    axes.set(title=title, xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
