"""Random logits of a network whose correct temperature is known."""

import torch
from torch import Tensor


def draw_logits(count: int, seed: int, factor: float = 1.0, classes: int = 5) -> tuple[Tensor, Tensor]:
    """(count, classes) logits and labels. The labels are drawn from the softmax of logits / factor."""
    generator = torch.Generator().manual_seed(seed)
    logits = 1.5 * torch.randn((count, classes), generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return factor * logits, labels
