"""Logits of made-up images, and calibrations that are fitted to them."""

import torch
from torch import Tensor

from models.probabilities import Calibration, ClassTables, quantile_table, ranked_scores, softmax
from models.typicality import energy


def drawn(count: int, seed: int, classes: int = 6) -> tuple[Tensor, Tensor]:
    """Exchangeable images: (count, classes) logits of a noisy, overconfident network that is right in 58 %."""
    generator = torch.Generator().manual_seed(seed)
    true = 1.7 * torch.randn((count, classes), generator=generator)
    labels = torch.multinomial(true.softmax(1), 1, generator=generator)[:, 0]
    return 1.5 * true + 0.5 * torch.randn((count, classes), generator=generator), labels


def scores_of(logits: Tensor, labels: Tensor, kind: str) -> Tensor:
    """The conformal scores of the images' own labels."""
    ranked, scores = ranked_scores(softmax(logits), kind)
    return scores[ranked == labels[:, None]]


def calibrated(logits: Tensor, labels: Tensor, kind: str) -> Calibration:
    scores, energies = scores_of(logits, labels, kind), energy(logits)
    return Calibration(
        kind=kind,
        images=len(labels),
        scores=quantile_table(scores.tolist()),
        energies=quantile_table(energies.tolist()),
        by_class=ClassTables(
            images=tuple(torch.bincount(labels, minlength=logits.shape[1]).tolist()),
            scores=tuple(quantile_table(scores[labels == label].tolist()) for label in range(logits.shape[1])),
        ),
    )
