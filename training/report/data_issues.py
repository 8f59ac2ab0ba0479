"""The sections of the report on suspicious data: likely wrong labels, near-duplicates, and what those change.

Owns what the report says about them. Which images they are, `training.evaluation.data_issues` found.
"""

from collections import Counter
from collections.abc import Sequence

from training.data.items import SPLITS
from training.evaluation.data_issues import DataIssues, GroupResult, LeakEffect
from training.evaluation.errors import coverage_interval, wilson_interval
from training.evaluation.evaluation import Evaluation
from training.evaluation.near_duplicates import MAX_DISTANCE, MIN_CORRELATION, THUMBNAIL
from training.report import issue_plots
from training.report.template import Picture, Section, Table, Text

MAX_ISSUES = 30
MAX_PAIRS = 24


def describe_issues(evaluation: Evaluation, labels: Sequence[str]) -> list[Section]:
    """The sections; none if the data were not examined."""
    if not evaluation.issues or not evaluation.leak:
        return []
    return [
        describe_label_issues(evaluation.issues, labels),
        describe_near_duplicates(evaluation.issues, labels),
        describe_leak(evaluation.leak, evaluation),
    ]


def describe_label_issues(issues: DataIssues, labels: Sequence[str]) -> Section:
    """The likely wrong labels, as pictures and as a table."""
    title, found, shown = "Likely wrong labels", issues.label_issues, issues.label_issues[:MAX_ISSUES]
    total = sum(map(len, issues.splits.values()))
    scope = Text(
        f"Only the {issues.examined:,} images that the network was not trained on are examined, of {total:,} in all. "
        "The network has learned the labels of the others, and to train further networks without them would take "
        "several times as long. If the splits are taken by seed, a run with another seed examines other images."
    )
    if not found:
        return Section(title, (scope, Text("No label is likely wrong.")))
    note = Text(
        f"{len(found):,} labels are likely wrong ({len(found) / issues.examined:.1%} of those examined), by confident "
        "learning (arXiv 1911.00068). An image is listed if the network gives another label more probability than the "
        "given one, and at least as much as images of that other label get on average. These are suggestions, not "
        "facts. A network that makes many mistakes lists many labels that are right. The first ones "
        f"are the most likely. {_describe_shown(len(shown), len(found))}The given label is above each image, the "
        "suggested label below it, each with its probability."
    )
    images = [issues.splits[split].images[issue.index].cpu() for split, issue in shown]
    rows = [
        (
            labels[i.given],
            labels[i.suggested],
            f"{i.given_probability:.2%}",
            f"{i.suggested_probability:.2%}",
            at,
            i.index,
        )
        for at, i in shown
    ]
    alt = (
        f"{len(shown)} images with likely wrong labels. The first is labelled {rows[0][0]}, suggested is {rows[0][1]}."
    )
    header = ("given label", "suggested label", "its probability", "the suggested one's", "split", "image index")
    picture = Picture("label_issues", issue_plots.plot_label_issues(images, [i for _, i in shown], labels), alt)
    return Section(title, (scope, note, picture, Table(header, rows, numeric_from=2, summary="Show as a table")))


def describe_near_duplicates(issues: DataIssues, labels: Sequence[str]) -> Section:
    """How many images of each split are like others, and the pairs as pictures and as a table."""
    title, duplicates = "Near-duplicates", issues.near_duplicates
    shown = duplicates.pairs[:MAX_PAIRS]
    scope = (
        "Two images are near-duplicates if their 64-bit perceptual hashes differ in at most "
        f"{MAX_DISTANCE} bits and their thumbnails of {THUMBNAIL} x {THUMBNAIL} pixels have a correlation of at least "
        f"{MIN_CORRELATION}. Images with the same pixels are among them. Mirrored and rotated images are not found. "
        "Simple drawings, such as digits, can be as alike without being the same picture."
    )
    if duplicates.flat:
        scope += f" {duplicates.flat:,} images of nearly one colour were not compared."
    if not duplicates.complete:
        scope += " So many images look alike that the search was ended early, and there are more near-duplicates."
    if not shown:
        return Section(title, (Text(scope), Text("There are no near-duplicates.")))
    different = sum(pair.label != pair.other_label for pair in duplicates.pairs)
    note = (
        f"{duplicates.images:,} images show nearly the same picture as an image before them, in the order of "
        f"{', '.join(SPLITS)}. In {different:,} of the {len(duplicates.pairs):,} pairs the labels differ. "
        f"{_describe_shown(len(shown), len(duplicates.pairs))}Pairs with different labels come first and have their "
        "labels in orange. Pairs across splits are next. The label is above each image and its split below."
    )
    counts = Counter((pair.split, pair.other_split) for pair in duplicates.pairs)
    overview = Table(("images of", "that are like images of", "images"), [(*k, f"{n:,}") for k, n in counts.items()], 2)
    both = [
        (issues.splits[p.split].images[p.index].cpu(), issues.splits[p.other_split].images[p.other_index].cpu())
        for p in shown
    ]
    rows = [
        (labels[p.label], p.split, p.index, labels[p.other_label], p.other_split, p.other_index, f"{p.correlation:.3f}")
        for p in shown
    ]
    label, split, _, _, other_split, *_ = rows[0]
    alt = f"{len(shown)} pairs of images. The first is {label} of {split}, which is like one of {other_split}."
    header = ("label", "split", "image index", "other label", "other split", "other index", "correlation")
    picture = Picture("near_duplicates", issue_plots.plot_near_duplicates(both, shown, labels), alt)
    table = Table(header, rows, numeric_from=len(header), summary="Show as a table")
    return Section(title, (Text(scope), Text(note), overview, picture, table))


def describe_leak(leak: LeakEffect, evaluation: Evaluation) -> Section:
    """Accuracy and coverage with and without the held-out images that are near-duplicates of training images."""
    title, split = "Results without near-duplicates of training images", evaluation.split_name
    if not leak.leaks:
        text = f"No image of {split} is a near-duplicate of a training image, so no result is better for that reason."
        return Section(title, (Text(text),))
    note = (
        f"{leak.leaks.images:,} of the {leak.everything.images:,} images of {split} are near-duplicates of training "
        "images. The network can know their labels by heart, so accuracy and coverage can be too good for new images. "
        "The second row shows the results without them. Brackets have the 95% interval. Leaks in the calibration split "
        "act the other way: they make the prediction sets too small for new images."
    )
    groups = {
        "all images": leak.everything,
        "without near-duplicates": leak.without_leaks,
        "near-duplicates": leak.leaks,
    }
    rows = [(name, *_describe_group(group)) for name, group in groups.items() if group]
    coverages = [f"coverage at {r.coverage:.0%}" for r in leak.everything.coverage_results]
    return Section(title, (Text(note), Table(("images of " + split, "images", "accuracy", *coverages), rows)))


def _describe_group(group: GroupResult) -> list[str]:
    shares = [(group.correct / group.images, wilson_interval(group.correct, group.images))]
    shares += [(r.empirical, coverage_interval(r, group.images)) for r in group.coverage_results]
    return [f"{group.images:,}", *(f"{share:.2%} [{low:.1%}, {high:.1%}]" for share, (low, high) in shares)]


def _describe_shown(shown: int, total: int) -> str:
    return "" if shown == total else f"The first {shown} are shown. "
