"""Likely wrong labels, found by confident learning (Northcutt et al., arXiv 1911.00068).

Owns the thresholds, the confident joint and the ranking. They need the probabilities of a network that was not trained
on the images: a network that was has learned the wrong labels too.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class LabelIssue:
    """An image whose label is likely wrong.

    `index` is its row in the probabilities. `given` is its label, `suggested` the label that it likely should have,
    each with its probability.
    """

    index: int
    given: int
    suggested: int
    given_probability: float
    suggested_probability: float


def find_label_issues(probabilities: Tensor, labels: Tensor) -> list[LabelIssue]:
    """The likely wrong labels of (N, K) probabilities and (N,) given labels, the most likely first.

    These are the images that the confident joint counts outside its diagonal (section 3.1 of the paper, the pruning by
    the confident joint in section 3.2), without those whose given label is still the more probable one. They are
    ranked by the margin, which is the probability of the suggested label minus that of the given label.
    """
    suggested = suggest_labels(probabilities, labels)
    rows = torch.arange(len(labels))
    given_probability = probabilities[rows, labels]
    suggested_probability = probabilities[rows, suggested.clamp(min=0)]
    margins = suggested_probability.double() - given_probability.double()
    order = margins.sort(descending=True, stable=True).indices
    found = order[((suggested >= 0) & (suggested != labels) & (margins > 0))[order]]
    columns = (found, *(of[found] for of in (labels, suggested, given_probability, suggested_probability)))
    return [LabelIssue(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def suggest_labels(probabilities: Tensor, labels: Tensor) -> Tensor:
    """For each row of (N, K) probabilities the label that the confident joint counts it under, or -1 if none.

    A label's threshold is the mean probability that its own images give it. An image is counted under the most
    probable of the labels whose threshold it reaches. A label without images has no threshold and is never suggested.
    """
    exact, classes = probabilities.double(), probabilities.shape[1]
    images = torch.bincount(labels, minlength=classes)
    own = torch.bincount(labels, exact.gather(1, labels[:, None])[:, 0], minlength=classes)
    thresholds = torch.where(images > 0, own / images.clamp(min=1), torch.inf)
    reached = torch.where(exact >= thresholds, exact, -1.0)  # (N, K)
    highest, suggested = reached.max(dim=1)
    return torch.where(highest >= 0, suggested, -1)
