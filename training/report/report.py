"""What came of a run, for people: a page with figures, and the model card.

Owns what is said, in which order, and the files. All of it comes from the checkpoint's description and
from the logits of the test split; knows nothing of networks or of how the run went on.
"""

import os
import platform
from pathlib import Path, PurePath

import torch

from models.checkpoint import CheckpointMetadata
from models.export.model_card import model_card
from training.evaluation.errors import (
    coverage_interval,
    most_confused,
    per_class_results,
    wilson_interval,
    worst_mistakes,
)
from training.evaluation.evaluation import Evaluation
from training.report import plots
from training.report.template import Picture, Section, details, document, facts, headline, table

PICTURES = ("curves", "confusion", "reliability", "coverage", "mistakes")
MOST_LABELS = 30  # a confusion matrix of more cannot be read
MOST_PAIRS = 20
MOST_MISTAKES = 25


def write_report(folder: Path, metadata: CheckpointMetadata, version: str, evaluation: Evaluation) -> Path:
    """Writes report.html, its pictures and README.md, and gives the path of the first. Raises OSError.

    The history has at least one epoch. The checkpoint is expected beside the folder, under the folder's name.
    Older files are replaced.
    """
    d = metadata
    origins = {"Recipe": d.recipe, "Data": d.dataset, "Environment": {**d.versions, **_machine()}}
    sections = [
        _headline(evaluation),
        _curves(metadata),
        _confusion(metadata, evaluation),
        _reliability(evaluation),
        _coverage(evaluation),
        _mistakes(metadata, evaluation),
        _labels(metadata, evaluation),
    ]
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


def _headline(evaluation: Evaluation) -> Section:
    total, correct = len(evaluation.split), int(evaluation.counts.diag().sum())
    low, high = wilson_interval(correct, total)
    entries = [
        (
            f"{evaluation.split_name.capitalize()} accuracy",
            f"{evaluation.metrics['accuracy']:.2%}",
            f"{correct:,} of {total:,}; 95% interval {100 * low:.1f} to {high:.1%}",
        ),
        ("Balanced accuracy", f"{evaluation.metrics['balanced_accuracy']:.2%}", "the labels' recall, on average"),
    ]
    for key, name in (("nll", "NLL"), ("brier", "Brier score"), ("ece", "ECE")):
        before, after = getattr(evaluation.uncalibrated, key), getattr(evaluation.served, key)
        if evaluation.coverage_results:
            entries.append((name, f"{before:.4f} → {after:.4f}", "before → after calibration"))
        else:
            entries.append((name, f"{after:.4f}", "without a calibration"))
    if evaluation.coverage_results:
        at = {p.coverage: f"{p.mean_size:.2f}" for p in evaluation.coverage_results}
        others = ", ".join(f"{size} at {coverage:.0%}" for coverage, size in at.items() if coverage != 0.9)
        entries.append(("Prediction sets of 90%", f"{at[0.9]} labels", f"on average; {others}"))
    meaning = "NLL (in nats), Brier score (0 to 2) and ECE (0 to 1) are of the probabilities; smaller is better."
    if evaluation.split_name != "test":
        meaning += (
            f" There is no test split: all figures are of {evaluation.split_name}, by which runs may have been chosen."
        )
    return Section("In short", (headline(entries), meaning))


def _curves(metadata: CheckpointMetadata) -> Section:
    history = metadata.history
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


def _confusion(metadata: CheckpointMetadata, evaluation: Evaluation) -> Section:
    title, labels, pairs = "Confusion", metadata.labels, most_confused(evaluation.counts, MOST_PAIRS)
    if not pairs:
        return Section(title, ("No image was given a wrong label.",))
    if len(labels) > MOST_LABELS:
        rows = [(labels[p.true], labels[p.predicted], f"{p.images:,}", f"{p.share:.1%}") for p in pairs]
        header = ("right label", "given label", "images", "share of the right label's")
        return Section(title, ("The labels that are confused most often.", table(header, rows, numbers=2)))
    first, total = pairs[0], len(evaluation.split)
    wrong = total - int(evaluation.counts.diag().sum())
    alt = (
        f"Confusion matrix of {len(labels)} labels: {wrong:,} of {total:,} images lie off the diagonal; "
        f"most often, {first.images} times, {labels[first.true]} is taken for {labels[first.predicted]}."
    )
    return Section(title, (Picture("confusion", plots.confusion(evaluation.counts, labels), alt),))


def _reliability(evaluation: Evaluation) -> Section:
    note = (
        "Bars show how often top labels of a probability are right; grey ones, how many images have such labels. "
        "On the dashed line probabilities are what they say; orange is how far off they are. "
    )
    if evaluation.coverage_results:
        panels = {"before calibration": evaluation.uncalibrated, "after calibration": evaluation.served}
        note += f"The calibration divides the logits by a temperature of {evaluation.temperature:.3f}."
    else:
        panels = {"without a calibration": evaluation.served}
        note += "There is no calibration, and so no second diagram."
    bins = {name: of_panel.bins for name, of_panel in panels.items()}
    off = (f"{of_panel.ece:.4f} {name}" for name, of_panel in panels.items())
    alt = f"How often the top label is right, by its probability. They differ (ECE) by {', '.join(off)}."
    return Section("Reliability", (Picture("reliability", plots.reliability(bins), alt), note))


def _coverage(evaluation: Evaluation) -> Section:
    title = "Prediction sets"
    if not evaluation.coverage_results:
        return Section(title, ("There is no calibration, and without one no coverage can be promised.",))
    intervals = [coverage_interval(p, len(evaluation.split)) for p in evaluation.coverage_results]
    rows = [
        (f"{p.coverage:.0%}", f"{p.empirical:.2%}", f"{low:.2%} to {high:.2%}", f"{p.mean_size:.2f}")
        for p, (low, high) in zip(evaluation.coverage_results, intervals, strict=True)
    ]
    alt = "Coverage that was kept: " + ", ".join(
        f"{p.empirical:.1%} where {p.coverage:.0%}" for p in evaluation.coverage_results
    )
    picture = Picture("coverage", plots.coverage(evaluation.coverage_results, intervals), f"{alt} was asked for.")
    return Section(
        title, (picture, table(("coverage asked for", "kept", "95% interval", "mean size"), rows, numbers=0))
    )


def _mistakes(metadata: CheckpointMetadata, evaluation: Evaluation) -> Section:
    labels, wrong = metadata.labels, worst_mistakes(evaluation, MOST_MISTAKES)
    title = "The worst mistakes"
    if not wrong:
        return Section(title, ("No image was given a wrong label.",))
    images = evaluation.split.images[[mistake.index for mistake in wrong]]
    first = f"{labels[wrong[0].true]}, given as {labels[wrong[0].predicted]} with {wrong[0].probability:.1%}"
    rows = [(labels[m.true], labels[m.predicted], f"{m.probability:.2%}", m.index) for m in wrong]
    listed = table(("right label", "given label", "probability", "image of the split"), rows, numbers=2)
    note = "Above each picture its right label, below it the one that it was given, with its probability."
    picture = Picture(
        "mistakes", plots.mistakes(images, wrong, labels), f"{len(wrong)} pictures; the first is {first}."
    )
    return Section(title, (note, picture, details("As a table", listed)))


def _labels(metadata: CheckpointMetadata, evaluation: Evaluation) -> Section:
    rows = [
        (label, f"{of.images:,}", *(_share(share) for share in (of.precision, of.recall, of.f1)))
        for label, of in zip(metadata.labels, per_class_results(evaluation.counts), strict=True)
    ]
    return Section("Labels", (table(("label", "images", "precision", "recall", "F1"), rows),))


def _machine() -> dict[str, object]:
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"platform": platform.platform(), "processors": os.cpu_count(), "CUDA devices": devices}


def _share(share: float | None) -> str | None:
    return None if share is None else f"{share:.1%}"
