"""Likely wrong labels, compared with confident learning's counting written out image by image."""

import pytest
import torch
from torch import Tensor

from training.evaluation.label_issues import LabelIssue, find_label_issues, suggest_labels


def count_confident_joint(probabilities: list[list[float]], labels: list[int]) -> tuple[list[list[int]], list[int]]:
    """The confident joint and each image's label in it (-1 if none), by the paper's definition, in loops."""
    classes = range(len(probabilities[0]))
    own = {k: [row[k] for row, label in zip(probabilities, labels, strict=True) if label == k] for k in classes}
    joint, counted = [[0] * len(classes) for _ in classes], []
    for row, label in zip(probabilities, labels, strict=True):
        reached = [k for k in classes if own[k] and row[k] >= sum(own[k]) / len(own[k])]
        best = max(reached, key=lambda k: row[k]) if reached else -1
        counted.append(best)
        if best >= 0:
            joint[label][best] += 1
    return joint, counted


def draw(images: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(images, classes, generator=generator)
    return logits.softmax(1), torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]


def test_a_small_example_counted_by_hand() -> None:
    """The thresholds are .8, .6 and .5. One cat is a likely dog; a dog that is unsure of everything is not listed."""
    probabilities = torch.tensor(
        [[0.9, 0.1, 0.0], [1.0, 0.0, 0.0], [0.5, 0.25, 0.25], [0.1, 0.9, 0.0], [0.3, 0.3, 0.4], [0.2, 0.3, 0.5]],
        dtype=torch.float64,
    )
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    assert suggest_labels(probabilities, labels).tolist() == [0, 0, -1, 1, -1, 2]
    assert find_label_issues(probabilities, labels) == []
    labels[3] = 0  # the dogs' threshold is now .3 and the cats' .625
    assert find_label_issues(probabilities, labels) == [LabelIssue(3, 0, 1, 0.1, 0.9)]


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_counting_is_that_of_the_paper(classes: int) -> None:
    """The label under which each image is counted, and so the confident joint, equals the one counted in loops."""
    for seed in range(5):
        probabilities, labels = draw(200, classes, seed)
        probabilities = probabilities.double()
        joint, counted = count_confident_joint(probabilities.tolist(), labels.tolist())
        suggested = suggest_labels(probabilities, labels)
        assert suggested.tolist() == counted
        known = suggested >= 0
        cells = torch.bincount(labels[known] * classes + suggested[known], minlength=classes**2)
        assert cells.reshape(classes, classes).tolist() == joint


def test_issues_lie_outside_the_diagonal_and_are_ranked_by_margin() -> None:
    """Each is counted under another label, which has more probability than the given one."""
    probabilities, labels = draw(500, 4, 0)
    suggested, issues = suggest_labels(probabilities, labels), find_label_issues(probabilities, labels)
    margins = [issue.suggested_probability - issue.given_probability for issue in issues]
    assert len(issues) > 20
    assert margins == sorted(margins, reverse=True)
    assert margins[-1] > 0
    for issue in issues:
        assert (issue.given, issue.suggested) == (int(labels[issue.index]), int(suggested[issue.index]))
        assert issue.given != issue.suggested


def test_flipped_labels_come_first() -> None:
    """If a good network's labels are changed, exactly the changed ones are listed."""
    true = torch.arange(300) % 3
    probabilities = (4 * torch.eye(3)[true] + 0.1 * torch.rand(300, 3)).softmax(1)
    labels = true.clone()
    labels[:12] = (labels[:12] + 1) % 3
    issues = find_label_issues(probabilities, labels)
    assert {issue.index for issue in issues} == set(range(12))
    assert all(issue.suggested == int(true[issue.index]) for issue in issues)


def test_a_label_without_images_is_never_suggested() -> None:
    """Nothing tells how probable its images would find it."""
    probabilities = torch.tensor([[0.1, 0.1, 0.8], [0.1, 0.1, 0.8]])
    assert suggest_labels(probabilities, torch.tensor([0, 1])).tolist() == [0, 0]
    assert find_label_issues(probabilities, torch.tensor([0, 1])) == []


def test_probabilities_that_are_not_numbers_name_no_image() -> None:
    """A network that gives NaN says nothing about labels."""
    assert find_label_issues(torch.full((4, 2), torch.nan), torch.tensor([0, 0, 1, 1])) == []
