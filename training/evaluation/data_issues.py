"""What a trained network says about its data: likely wrong labels, near-duplicates, and what they do to the results.

Owns which images are examined, and how the results differ without near-duplicates of training images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from models.probabilities import Calibration
from training.data.dataset import Split
from training.evaluation.label_issues import LabelIssue, find_label_issues
from training.evaluation.metrics import COVERAGES, CoverageResult, measure_coverage
from training.evaluation.near_duplicates import NearDuplicates, find_near_duplicates


@dataclass(frozen=True, slots=True, eq=False)
class DataIssues:
    """The issues of all `splits`.

    `label_issues` are pairs of a split's name and an issue in it, whose index is that in the split. `examined` is the
    number of images whose labels were examined: those of all splits but `train`.
    """

    splits: Mapping[str, Split]
    examined: int
    label_issues: list[tuple[str, LabelIssue]]
    near_duplicates: NearDuplicates

    @property
    def summary(self) -> str:
        """The numbers of issues, for the line at the end of a run."""
        labels, duplicates = len(self.label_issues), self.near_duplicates.images
        plurals = ("" if labels == 1 else "s"), ("" if duplicates == 1 else "s")
        return f"{labels} likely wrong label{plurals[0]}, {duplicates} near-duplicate{plurals[1]}; see report"


@dataclass(frozen=True, slots=True)
class GroupResult:
    """The results of a group of `images` images: how many are correct, and the coverages if there is a calibration."""

    images: int
    correct: int
    coverage_results: list[CoverageResult]


@dataclass(frozen=True, slots=True)
class LeakEffect:
    """The results of all held-out images, of those without, and of those with a near-duplicate among the training ones.

    A group without images is None.
    """

    everything: GroupResult
    without_leaks: GroupResult | None
    leaks: GroupResult | None


def find_data_issues(splits: Mapping[str, Split], probabilities: Mapping[str, Tensor]) -> DataIssues:
    """Examines the labels of the splits that have (N, K) probabilities, all together, and the pictures of all splits.

    The probabilities must be those of a network that was not trained on these splits.
    """
    places = [(name, index) for name in probabilities for index in range(len(splits[name]))]
    labels = torch.cat([splits[name].labels.cpu() for name in probabilities])
    issues = find_label_issues(torch.cat(list(probabilities.values())), labels)
    return DataIssues(
        splits=splits,
        examined=len(places),
        label_issues=[(places[i.index][0], replace(i, index=places[i.index][1])) for i in issues],
        near_duplicates=find_near_duplicates(splits),
    )


def measure_leak(
    probabilities: Tensor, labels: Tensor, calibration: Calibration | None, leaked: Sequence[int]
) -> LeakEffect:
    """What the images at the indices `leaked` do to the results of (N, K) probabilities and (N,) labels."""
    mask = torch.zeros(len(labels), dtype=torch.bool)
    mask[list(leaked)] = True

    def measure(rows: Tensor) -> GroupResult | None:
        own, true = probabilities[rows], labels[rows]
        if not len(true):
            return None
        results = [measure_coverage(own, true, calibration, c) for c in COVERAGES] if calibration else []
        return GroupResult(len(true), int((own.argmax(dim=1) == true).sum()), results)

    everything = measure(torch.ones_like(mask))
    assert everything is not None, "a split has at least one image"
    return LeakEffect(everything, measure(~mask), measure(mask))


def describe_issues(issues: DataIssues, leak: LeakEffect | None) -> dict[str, object]:
    """The counts, and the accuracy and coverage without leaked images, as the checkpoint stores them."""
    duplicates = issues.near_duplicates
    by_split: dict[str, int] = {}
    for pair in duplicates.pairs:
        key = f"{pair.split} like {pair.other_split}"
        by_split[key] = by_split.get(key, 0) + 1
    described: dict[str, object] = {
        "labels_examined": issues.examined,
        "likely_wrong_labels": len(issues.label_issues),
        "near_duplicates": duplicates.images,
        "near_duplicates_by_split": by_split,
        "flat_images": duplicates.flat,
    }
    if leak and leak.leaks and (clean := leak.without_leaks):
        described["without_near_duplicates_of_train"] = {
            "images": clean.images,
            "accuracy": clean.correct / clean.images,
            **{f"coverage_{100 * r.coverage:.0f}": r.empirical for r in clean.coverage_results},
        }
    return described
