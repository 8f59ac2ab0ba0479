"""The issues of a data set: which images are examined, and what leaks do to the results."""

import torch
from torch import Tensor

from tests.fakes.logits import draw_logits
from tests.fakes.pictures import draw_pictures, make_split
from training.data.dataset import Split
from training.evaluation.calibration import calibrate
from training.evaluation.data_issues import DataIssues, describe_issues, find_data_issues, measure_leak
from training.evaluation.evaluation import evaluate_predictions
from training.evaluation.metrics import COVERAGES, measure_coverage


def sure(labels: Tensor) -> Tensor:
    """The probabilities of a network that is sure of these labels."""
    return (6 * torch.eye(2)[labels]).softmax(1)


def examine() -> DataIssues:
    """Two images of ten in `test` are copies of training images, and the last of `val` has a wrong label."""
    images = draw_pictures(30, seed=0)
    true = torch.arange(10) % 2
    wrong = torch.cat((true[:9], 1 - true[9:]))
    test = torch.cat((images[:2], images[22:]))
    splits = {"train": Split(images[:12], torch.arange(12) % 2), "val": Split(images[12:22], wrong)}
    return find_data_issues({**splits, "test": Split(test, true)}, {"val": sure(true), "test": sure(true)})


def test_labels_of_training_images_are_not_examined() -> None:
    """All the other splits are examined together, and an issue is named by its split and its index there."""
    issues = examine()
    assert issues.examined == 20
    [(split, issue)] = issues.label_issues
    assert (split, issue.index, issue.given, issue.suggested) == ("val", 9, 0, 1)


def test_the_summary_has_both_numbers() -> None:
    """It is the end of the last line of a run."""
    assert examine().summary == "1 likely wrong label, 2 near-duplicates; see report"


def test_accuracy_and_coverage_are_measured_with_and_without_leaks() -> None:
    """Each group has the results of its own images, and together they are all images."""
    temperature, calibration = calibrate(*draw_logits(200, seed=0))
    logits, labels = draw_logits(100, seed=1)
    probabilities = (logits / temperature).softmax(1)
    leaked = [3, 50, 70]
    kept = [i for i in range(100) if i not in leaked]
    effect = measure_leak(probabilities, labels, calibration, leaked)
    assert effect.leaks is not None
    assert effect.without_leaks is not None
    assert (effect.everything.images, effect.without_leaks.images, effect.leaks.images) == (100, 97, 3)
    assert effect.without_leaks.correct == int((logits.argmax(1) == labels)[kept].sum())
    assert effect.everything.correct == effect.without_leaks.correct + effect.leaks.correct
    expected = [measure_coverage(probabilities[kept], labels[kept], calibration, c) for c in COVERAGES]
    assert effect.without_leaks.coverage_results == expected


def test_a_group_without_images_has_no_results() -> None:
    """There may be no leak, or nothing but leaks. Without a calibration there is no coverage."""
    logits, labels = draw_logits(10, seed=0)
    none = measure_leak(logits.softmax(1), labels, None, [])
    assert (none.leaks, none.without_leaks) == (None, none.everything)
    assert none.everything.coverage_results == []
    assert measure_leak(logits.softmax(1), labels, None, range(10)).without_leaks is None


def test_an_evaluation_has_the_effect_of_leaks_on_its_own_split() -> None:
    """The checkpoint gets the counts, and the accuracy without leaked images where there are any."""
    issues = examine()
    split = issues.splits["test"]
    evaluation = evaluate_predictions("test", split, sure(split.labels).log(), issues=issues)
    assert evaluation.leak is not None
    assert evaluation.leak.leaks is not None
    assert evaluation.leak.leaks.images == 2
    assert describe_issues(issues, evaluation.leak) == {
        "labels_examined": 20,
        "likely_wrong_labels": 1,
        "near_duplicates": 2,
        "near_duplicates_by_split": {"test like train": 2},
        "flat_images": 0,
        "without_near_duplicates_of_train": {"images": 8, "accuracy": 1.0},
    }


def test_without_leaks_the_checkpoint_has_only_counts() -> None:
    """A data set of different pictures has no second accuracy."""
    splits = {"train": make_split(draw_pictures(5, 0)), "test": make_split(draw_pictures(5, 1))}
    issues = find_data_issues(splits, {"test": sure(torch.zeros(5, dtype=torch.int64))})
    evaluation = evaluate_predictions("test", splits["test"], torch.eye(2)[[0] * 5], issues=issues)
    assert "without_near_duplicates_of_train" not in describe_issues(issues, evaluation.leak)
