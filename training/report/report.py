"""What came of a run, for people: a page with figures, and the model card.

Owns what is said, in which order, and the files. All of it comes from the checkpoint's description and
from the logits of the test split; knows nothing of networks or of how the run went on.
"""

import os
import platform
from pathlib import Path, PurePath

import torch
from torch import Tensor

from models.checkpoint import CheckpointMetadata
from models.export.model_card import model_card
from models.probabilities import softmax
from training.data.dataset import Split
from training.evaluation import calibration
from training.evaluation.errors import (
    Evaluation,
    balanced_accuracy,
    coverage_interval,
    evaluate_predictions,
    most_confused,
    per_class_results,
    wilson_interval,
    worst_mistakes,
)
from training.report import plots
from training.report.template import Picture, Section, details, document, facts, headline, table

PICTURES = ("curves", "confusion", "reliability", "coverage", "mistakes")
MOST_LABELS = 30  # a confusion matrix of more cannot be read
MOST_PAIRS = 20
MOST_MISTAKES = 25


def write_report(folder: Path, description: CheckpointMetadata, version: str, test: Split, logits: Tensor) -> Path:
    """Writes report.html, its pictures and README.md, and gives the path of the first. Raises OSError.

    `test` is the split `test`, or `val` where the description has no metrics of a `test`. It has at least one
    image, and `logits` are its (N, K) in CPU memory, at a temperature of 1; the history has at least one
    epoch. The checkpoint is taken to lie beside the folder, under its name. Older files are replaced.
    """
    d, found = description, evaluate_predictions(description, test, logits)
    results = (_headline, _curves, _confusion, _reliability, _coverage, _mistakes, _labels)
    origins = {"Recipe": d.recipe, "Data": d.dataset, "Environment": {**d.versions, **_machine()}}
    sections = [result(found) for result in results]
    sections += [Section(title, (facts(values),)) for title, values in origins.items()]
    title = f"{d.architecture.name} trained on {PurePath(d.dataset['name']).name}"
    page = document(title, f"Version {version}, made {d.created_at}", sections)
    pictures = {part.name: part.png for section in sections for part in section.parts if isinstance(part, Picture)}

    folder.mkdir(parents=True, exist_ok=True)
    for name in PICTURES:
        (folder / f"{name}.png").unlink(missing_ok=True)
    for name, png in pictures.items():
        (folder / f"{name}.png").write_bytes(png)
    (folder / "README.md").write_text(model_card(d, version, f"../{folder.name}.safetensors"), "utf-8")
    path = folder / "report.html"
    path.write_text(page, "utf-8", errors="backslashreplace")  # a name from the file system need not be sound Unicode
    return path


def _headline(f: Evaluation) -> Section:
    total, right = len(f.split), int(f.counts.diag().sum())
    low, high = wilson_interval(right, total)
    entries = [
        (
            f"{f.name.capitalize()} accuracy",
            f"{right / total:.2%}",
            f"{right:,} of {total:,}; 95% interval {100 * low:.1f} to {high:.1%}",
        ),
        ("Balanced accuracy", f"{balanced_accuracy(f.counts):.2%}", "the labels' recall, on average"),
    ]
    before = calibration.probability_metrics(f.logits, f.split.labels, 1.0)
    after = calibration.probability_metrics(f.logits, f.split.labels, f.description.temperature)
    for key, name in (("nll", "NLL"), ("brier", "Brier score"), ("ece", "ECE")):
        if f.promises:
            entries.append((name, f"{before[key]:.4f} → {after[key]:.4f}", "before → after calibration"))
        else:
            entries.append((name, f"{after[key]:.4f}", "without a calibration"))
    if f.promises:
        at = {p.coverage: f"{p.mean_size:.2f}" for p in f.promises}
        others = ", ".join(f"{size} at {coverage:.0%}" for coverage, size in at.items() if coverage != 0.9)
        entries.append(("Prediction sets of 90%", f"{at[0.9]} labels", f"on average; {others}"))
    meaning = "NLL (in nats), Brier score (0 to 2) and ECE (0 to 1) are of the probabilities; smaller is better."
    if f.name != "test":
        meaning += f" There is no test split: all figures are of {f.name}, by which runs may have been chosen."
    return Section("In short", (headline(entries), meaning))


def _curves(f: Evaluation) -> Section:
    history = f.description.history
    best, last = max(history, key=lambda record: record["val_accuracy"]), history[-1]
    alt = (
        f"Loss, accuracy and learning rate by epoch. Validation accuracy is {last['val_accuracy']:.2%} in the last, "
        f"{last['epoch']:.0f}, and at best {best['val_accuracy']:.2%}, in epoch {best['epoch']:.0f}."
    )
    note = (
        f"{sum(record['seconds'] for record in history):,.0f} seconds in all. Training figures are of augmented "
        "images, and their loss has the recipe's label smoothing in it, so they may be the worse ones."
    )
    return Section("Training", (Picture("curves", plots.curves(history), alt), note))


def _confusion(f: Evaluation) -> Section:
    title, labels, pairs = "Confusion", f.description.labels, most_confused(f.counts, MOST_PAIRS)
    if not pairs:
        return Section(title, ("No image was given a wrong label.",))
    if len(labels) > MOST_LABELS:
        rows = [(labels[p.right], labels[p.given], f"{p.images:,}", f"{p.share:.1%}") for p in pairs]
        header = ("right label", "given label", "images", "share of the right label's")
        return Section(title, ("The labels that are confused most often.", table(header, rows, numbers=2)))
    first, wrong = pairs[0], len(f.split) - int(f.counts.diag().sum())
    alt = (
        f"Confusion matrix of {len(labels)} labels: {wrong:,} of {len(f.split):,} images lie off the diagonal; "
        f"most often, {first.images} times, {labels[first.right]} is taken for {labels[first.given]}."
    )
    return Section(title, (Picture("confusion", plots.confusion(f.counts, labels), alt),))


def _reliability(f: Evaluation) -> Section:
    labels = f.split.labels
    note = (
        "Bars show how often top labels of a probability are right; grey ones, how many images have such labels. "
        "On the dashed line probabilities are what they say; orange is how far off they are. "
    )
    if f.promises:
        panels = {"before calibration": softmax(f.logits), "after calibration": f.served}
        note += f"The calibration divides the logits by a temperature of {f.description.temperature:.3f}."
    else:
        panels = {"without a calibration": f.served}
        note += "There is no calibration, and so no second diagram."
    bins = {name: calibration.reliability(probabilities, labels) for name, probabilities in panels.items()}
    off = (f"{calibration.expected_calibration_error(of_panel):.4f} {name}" for name, of_panel in bins.items())
    alt = f"How often the top label is right, by its probability. They differ (ECE) by {', '.join(off)}."
    return Section("Reliability", (Picture("reliability", plots.reliability(bins), alt), note))


def _coverage(f: Evaluation) -> Section:
    title = "Prediction sets"
    if not f.promises:
        return Section(title, ("There is no calibration, and without one no coverage can be promised.",))
    intervals = [coverage_interval(p, len(f.split)) for p in f.promises]
    rows = [
        (f"{p.coverage:.0%}", f"{p.kept:.2%}", f"{low:.2%} to {high:.2%}", f"{p.mean_size:.2f}")
        for p, (low, high) in zip(f.promises, intervals, strict=True)
    ]
    alt = "Coverage that was kept: " + ", ".join(f"{p.kept:.1%} where {p.coverage:.0%}" for p in f.promises)
    picture = Picture("coverage", plots.coverage(f.promises, intervals), f"{alt} was asked for.")
    return Section(
        title, (picture, table(("coverage asked for", "kept", "95% interval", "mean size"), rows, numbers=0))
    )


def _mistakes(f: Evaluation) -> Section:
    labels, wrong = f.description.labels, worst_mistakes(f, MOST_MISTAKES)
    title = "The worst mistakes"
    if not wrong:
        return Section(title, ("No image was given a wrong label.",))
    images = f.split.images[[mistake.number for mistake in wrong]]
    first = f"{labels[wrong[0].right]}, given as {labels[wrong[0].given]} with {wrong[0].probability:.1%}"
    rows = [(labels[m.right], labels[m.given], f"{m.probability:.2%}", m.number) for m in wrong]
    listed = table(("right label", "given label", "probability", "image of the split"), rows, numbers=2)
    note = "Above each picture its right label, below it the one that it was given, with its probability."
    picture = Picture(
        "mistakes", plots.mistakes(images, wrong, labels), f"{len(wrong)} pictures; the first is {first}."
    )
    return Section(title, (note, picture, details("As a table", listed)))


def _labels(f: Evaluation) -> Section:
    rows = [
        (label, f"{of.images:,}", *(_share(share) for share in (of.precision, of.recall, of.f1)))
        for label, of in zip(f.description.labels, per_class_results(f.counts), strict=True)
    ]
    return Section("Labels", (table(("label", "images", "precision", "recall", "F1"), rows),))


def _machine() -> dict[str, object]:
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"platform": platform.platform(), "processors": os.cpu_count(), "CUDA devices": devices}


def _share(share: float | None) -> str | None:
    return None if share is None else f"{share:.1%}"
