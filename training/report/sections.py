"""The sections of the report that show the results: their headings, captions, tables and pictures.

Owns what the report says about an evaluation and about the training history.
"""

from collections.abc import Mapping, Sequence

from models.decisions import CONFIDENCE
from training.evaluation.errors import (
    coverage_interval,
    most_confused,
    per_class_results,
    wilson_interval,
    worst_mistakes,
)
from training.evaluation.evaluation import Evaluation
from training.evaluation.metrics import CLASS_COVERAGE
from training.report import plots
from training.report.template import Block, Cards, Picture, Section, Table, Text

MAX_MATRIX_LABELS = 30  # a confusion matrix with more labels is not readable
MAX_PAIRS = 20
MAX_MISTAKES = 25
HEADLINE_COVERAGE = 0.9
SPLIT_NAMES = {"test": "Test", "val": "Validation"}
NO_MISTAKES = Text("There is no mistake: every image got its true label.")


def describe_summary(evaluation: Evaluation) -> Section:
    """Accuracy, quality of the probabilities, and size of the prediction sets, as large values."""
    metrics, results = evaluation.metrics, evaluation.coverage_results
    total, correct = len(evaluation.split), int(evaluation.counts.diag().sum())
    low, high = wilson_interval(correct, total)
    split = SPLIT_NAMES[evaluation.split_name]
    interval = f"95% interval {low:.1%} to {high:.1%}"
    entries = [
        (f"{split} accuracy", f"{metrics['accuracy']:.2%}", f"{correct:,} of {total:,} images; {interval}"),
        ("Balanced accuracy", f"{metrics['balanced_accuracy']:.2%}", "the mean of the labels' recall"),
    ]
    before, after = evaluation.uncalibrated, evaluation.served
    for name, old, new in (
        ("Negative log-likelihood", before.nll, after.nll),
        ("Brier score", before.brier, after.brier),
        ("Expected calibration error", before.ece, after.ece),
    ):
        if results:
            entries.append((name, f"{old:.4f} → {new:.4f}", "before → after calibration"))
        else:
            entries.append((name, f"{new:.4f}", "without calibration"))
    if results:
        sizes = {result.coverage: f"{result.mean_size:.2f}" for result in results}
        headline = f"{sizes.pop(HEADLINE_COVERAGE)} labels"
        others = ", ".join(f"{size} at {coverage:.0%}" for coverage, size in sizes.items())
        entries.append((f"Prediction set size at {HEADLINE_COVERAGE:.0%}", headline, f"the mean; {others}"))
    explanation = (
        f"All values are measured on the {split.lower()} images, which the network was not trained on. The negative "
        "log-likelihood (in nats), the Brier score (0 to 2) and the expected calibration error (0 to 1) measure the "
        "quality of the probabilities; smaller values are better."
    )
    if evaluation.split_name != "test":
        explanation += " There is no test split. If runs were chosen by these values, the values are too good."
    return Section("Summary", (Cards(entries), Text(explanation)))


def describe_training(history: Sequence[Mapping[str, float]]) -> Section:
    """Loss, accuracy and learning rate by epoch, of which there is at least one."""
    best, last = max(history, key=lambda record: record["val_accuracy"]), history[-1]
    alt = (
        f"Loss, accuracy and learning rate by epoch. The validation accuracy is {last['val_accuracy']:.2%} in the last "
        f"epoch ({last['epoch']:.0f}). The best is {best['val_accuracy']:.2%}, in epoch {best['epoch']:.0f}."
    )
    note = (
        f"The training took {sum(record['seconds'] for record in history):,.0f} seconds. The training values are "
        "measured on augmented images, and the training loss includes label smoothing if the settings ask for it. "
        "The training values can therefore be worse than the validation values."
    )
    return Section("Training curves", (Picture("curves", plots.plot_curves(history), alt), Text(note)))


def describe_confusion(evaluation: Evaluation, labels: Sequence[str]) -> Section:
    """The confusion matrix, or for many labels the pairs that are confused most often."""
    pairs = most_confused(evaluation.counts, MAX_PAIRS)
    if not pairs:
        return Section("Confusion matrix", (NO_MISTAKES,))
    if len(labels) > MAX_MATRIX_LABELS:
        rows = [(labels[p.true], labels[p.predicted], f"{p.images:,}", f"{p.share:.1%}") for p in pairs]
        table = Table(("true label", "predicted label", "images", "share of the true label"), rows, numeric_from=2)
        return Section("Most confused labels", (Text("The pairs of labels that are confused most often."), table))
    first, total = pairs[0], len(evaluation.split)
    wrong = total - int(evaluation.counts.diag().sum())
    alt = (
        f"Confusion matrix of {len(labels)} labels: {wrong:,} of {total:,} images are not on the diagonal. The most "
        f"frequent mistake, {first.images} times, is {labels[first.predicted]} for {labels[first.true]}."
    )
    note = (
        "Each row is a true label and each column a predicted label. A cell has the number of images, and its "
        "colour shows their share of the row. Correct predictions are on the diagonal."
    )
    picture = Picture("confusion", plots.plot_confusion(evaluation.counts, labels), alt)
    return Section("Confusion matrix", (Text(note), picture))


def describe_reliability(evaluation: Evaluation) -> Section:
    """Reliability diagrams before and after the calibration, or one if there is no calibration."""
    note = (
        "The images are grouped by the probability of their top label. A blue bar is the accuracy of a group, and a "
        "grey bar is its share of the images. On the dashed line the accuracy equals the probability; an orange line "
        "shows the difference. "
    )
    if evaluation.coverage_results:
        panels = {"before calibration": evaluation.uncalibrated, "after calibration": evaluation.served}
        note += f"The calibration divides the logits by a temperature of {evaluation.temperature:.3f}."
    else:
        panels = {"without calibration": evaluation.served}
        note += "There is no calibration, and therefore no second diagram."
    errors = ", ".join(f"{metrics.ece:.4f} {title}" for title, metrics in panels.items())
    alt = f"Accuracy by the probability of the top label. The expected calibration error is {errors}."
    plot = plots.plot_reliability({title: metrics.bins for title, metrics in panels.items()})
    return Section("Reliability of the probabilities", (Text(note), Picture("reliability", plot, alt)))


def describe_prediction_sets(evaluation: Evaluation) -> Section:
    """Requested and empirical coverage, and the size of the prediction sets."""
    title, results = "Prediction sets", evaluation.coverage_results
    if not results:
        return Section(title, (Text("There is no calibration, and prediction sets need one."),))
    note = (
        "A prediction set is a list of labels that contains the true label with a requested probability, the "
        "coverage. The empirical coverage is the share of images for which it does. Over many calibrations its mean "
        "reaches the requested coverage; that of one calibration can be a little above or below."
    )
    intervals = [coverage_interval(result, len(evaluation.split)) for result in results]
    rows = [
        (f"{r.coverage:.0%}", f"{r.empirical:.2%}", f"{low:.2%} to {high:.2%}", f"{r.mean_size:.2f}")
        for r, (low, high) in zip(results, intervals, strict=True)
    ]
    alt = "Empirical coverage: " + ", ".join(f"{r.empirical:.1%} for {r.coverage:.0%} requested" for r in results)
    picture = Picture("coverage", plots.plot_coverage(results, intervals), f"{alt}.")
    header = ("requested coverage", "empirical coverage", "95% interval", "mean labels per set")
    return Section(title, (Text(note), picture, Table(header, rows, numeric_from=0)))


def describe_decisions(evaluation: Evaluation) -> Section:
    """Requested and empirical errors of accepted predictions, and how many are accepted."""
    title, results = "Answer or defer", evaluation.decision_results
    if not results:
        return Section(title, (Text("There is no calibration for decisions."),))
    note = (
        "A prediction is accepted if the probability of its top label is high enough for a requested largest error. Of "
        f"the accepted predictions at most that share is wrong. With a probability of {CONFIDENCE:.0%}, a calibration "
        "gives a threshold that keeps this promise for all images of its kind."
    )
    total = len(evaluation.split)
    rows = []
    for result in results:
        share, accepted = f"{result.accepted / total:.1%}", result.accepted
        error, interval = None, None
        if accepted:
            low, high = wilson_interval(result.wrong, accepted)
            error, interval = f"{result.wrong / accepted:.2%}", f"{low:.2%} to {high:.2%}"
        rows.append((f"{result.max_error:.1%}", f"{accepted:,}", share, error, interval))
    header = ("largest error", "accepted images", "share of the images", "error among them", "95% interval")
    return Section(title, (Text(note), Table(header, rows, numeric_from=0)))


def describe_mistakes(evaluation: Evaluation, labels: Sequence[str]) -> Section:
    """The images whose wrong label has the highest probability, as pictures and as a table."""
    title, mistakes = "Most confident mistakes", worst_mistakes(evaluation, MAX_MISTAKES)
    if not mistakes:
        return Section(title, (NO_MISTAKES,))
    images = evaluation.split.images[[mistake.index for mistake in mistakes]]
    rows = [(labels[m.true], labels[m.predicted], f"{m.probability:.2%}", m.index) for m in mistakes]
    true, predicted, probability, _ = rows[0]
    alt = (
        f"{len(rows)} images with wrong predictions. The first is {true}, predicted as {predicted} with {probability}."
    )
    header = ("true label", "predicted label", "probability", "image index")
    blocks: tuple[Block, ...] = (
        Text("The true label is above each image. The predicted label and its probability are below it."),
        Picture("mistakes", plots.plot_mistakes(images, mistakes, labels), alt),
        Table(header, rows, numeric_from=2, summary="Show as a table"),
    )
    return Section(title, blocks)


def describe_labels(evaluation: Evaluation, labels: Sequence[str]) -> Section:
    """Precision, recall and F1 of each label."""
    note = (
        "Precision is the share of correct images among those predicted as the label. Recall is the share of correct "
        "images among those that have the label. F1 is the harmonic mean of both."
    )
    rows = [
        (label, f"{r.images:,}", *map(_format_share, (r.precision, r.recall, r.f1)))
        for label, r in zip(labels, per_class_results(evaluation.counts), strict=True)
    ]
    table = Table(("label", "images", "precision", "recall", "F1"), rows)
    return Section("Results by label", (Text(note), table, *_describe_class_coverage(evaluation, labels)))


def _describe_class_coverage(evaluation: Evaluation, labels: Sequence[str]) -> tuple[Block, ...]:
    results = evaluation.class_coverage
    if not results:
        return ()
    note = (
        f"The next table has the empirical coverage of prediction sets of {CLASS_COVERAGE:.0%} among the images of "
        "each label. Sets with one threshold have this coverage over all labels together. Sets with a threshold for "
        "each label (per_class) have it for each label. A label with too few calibration images is in every set."
    )
    rows = [
        (label, f"{r.images:,}", f"{r.together:.1%}", f"{r.per_class:.1%}") if r else (label, "0", None, None)
        for label, r in zip(labels, results, strict=True)
    ]
    header = ("label of the sets", "images", "one threshold", "a threshold for each label")
    return Text(note), Table(header, rows)


def _format_share(share: float | None) -> str | None:
    return None if share is None else f"{share:.1%}"
