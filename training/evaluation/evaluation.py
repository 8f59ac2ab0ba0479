"""The evaluation of a network on one split, computed once for the checkpoint, the report and the model card."""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.probabilities import Calibration
from training.data.dataset import Split
from training.evaluation.data_issues import DataIssues, LeakEffect, measure_leak
from training.evaluation.metrics import (
    CLASS_COVERAGE,
    COVERAGES,
    MAX_ERRORS,
    ClassCoverage,
    CoverageResult,
    DecisionResult,
    ProbabilityMetrics,
    accuracy_metrics,
    measure_class_coverage,
    measure_coverage,
    measure_decision,
    probability_metrics,
)


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """The predictions for the images of the split called `split_name`, and all measures of them.

    `predicted` are the (N,) top labels. `counts` are (K, K), with a row for each true label and a column for
    each predicted label. `served` has the probabilities at the checkpoint's `temperature`, `uncalibrated` those
    at 1. `metrics` are what the checkpoint records. The results of coverage and decisions are empty if there is no
    calibration. `class_coverage` has an entry for each label, at CLASS_COVERAGE. `issues` are those of the data, if
    they were examined, and `leak` is what near-duplicates of training images do to the results.
    """

    split_name: str
    split: Split
    temperature: float
    predicted: Tensor
    counts: Tensor
    served: ProbabilityMetrics
    uncalibrated: ProbabilityMetrics
    coverage_results: list[CoverageResult]
    decision_results: list[DecisionResult]
    class_coverage: list[ClassCoverage | None]
    metrics: dict[str, float]
    issues: DataIssues | None = None
    leak: LeakEffect | None = None


def evaluate_predictions(
    split_name: str,
    split: Split,
    logits: Tensor,
    temperature: float = 1.0,
    calibration: Calibration | None = None,
    issues: DataIssues | None = None,
) -> Evaluation:
    """Measures (N, K) logits in CPU memory, at a temperature of 1. The calibration is from another split."""
    labels, classes, predicted = split.labels, logits.shape[1], logits.argmax(dim=1)
    counts = torch.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)
    uncalibrated = probability_metrics(logits, labels, 1.0)
    served = uncalibrated if temperature == 1 else probability_metrics(logits, labels, temperature)
    coverage_results: list[CoverageResult] = []
    decision_results: list[DecisionResult] = []
    class_coverage: list[ClassCoverage | None] = []
    metrics = {"images": len(split), **accuracy_metrics(logits, labels)}
    if calibration:
        coverage_results = [measure_coverage(served.probabilities, labels, calibration, c) for c in COVERAGES]
        metrics |= _calibration_metrics(served, uncalibrated, coverage_results)
    if calibration and calibration.decisions:
        decisions = calibration.decisions
        decision_results = [measure_decision(served.probabilities, labels, decisions, e) for e in MAX_ERRORS]
    if calibration and calibration.by_class:
        class_coverage = measure_class_coverage(served.probabilities, labels, calibration, CLASS_COVERAGE)
    leak = None
    if issues:
        leaked = issues.near_duplicates.leaked_from_train(split_name)
        leak = measure_leak(served.probabilities, labels, calibration, leaked)
    return Evaluation(
        split_name=split_name,
        split=split,
        temperature=temperature,
        predicted=predicted,
        counts=counts,
        served=served,
        uncalibrated=uncalibrated,
        coverage_results=coverage_results,
        decision_results=decision_results,
        class_coverage=class_coverage,
        metrics=metrics,
        issues=issues,
        leak=leak,
    )


def _calibration_metrics(
    served: ProbabilityMetrics, uncalibrated: ProbabilityMetrics, coverage_results: list[CoverageResult]
) -> dict[str, float]:
    """`nll`, `brier`, `ece`, each also `_uncalibrated`, and for each coverage `coverage_90` and `set_size_90`."""
    names = ("nll", "brier", "ece")
    return {
        **{name: getattr(served, name) for name in names},
        **{f"{name}_uncalibrated": getattr(uncalibrated, name) for name in names},
        **{f"coverage_{100 * result.coverage:.0f}": result.empirical for result in coverage_results},
        **{f"set_size_{100 * result.coverage:.0f}": result.mean_size for result in coverage_results},
    }
