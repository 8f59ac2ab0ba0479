"""The optimiser, the rate's way through a run, and the running average of the weights.

Knows nothing of images or data.
"""

import copy
import math

import torch
from torch import nn

from training.config import Recipe


def sgd(model: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """SGD with Nesterov momentum; biases and BatchNorm, the one-dimensional weights, do not decay."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=recipe.rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0)


def rate_at(step: int, steps: int, recipe: Recipe) -> float:
    """The learning rate of one of `steps` steps, counted from 0.

    `triangular` rises linearly to `rate` over the share `warmup` and falls linearly towards zero;
    `one_cycle` does the same on half cosines (after Smith, arXiv 1708.07120).
    """
    peak = round(recipe.warmup * (steps - 1))
    part = (step + 1) / (peak + 1) if step <= peak else (steps - step) / (steps - peak)
    if recipe.schedule == "one_cycle":
        part = (1 - math.cos(math.pi * part)) / 2
    return recipe.rate * part


class Ema:
    """An exponential moving average of a model's weights and of its BatchNorm statistics.

    `model` is the averaged network, in evaluation mode. `decay` grows from 0.1 to the one given, so that
    the first weights, which are noise, are soon forgotten; with 0 the average is the model itself.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0
        self._pairs = list(zip(self.model.state_dict().values(), model.state_dict().values(), strict=True))

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the model's present weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for average, current in self._pairs:
            if average.is_floating_point():
                average.lerp_(current, 1 - decay)
            else:
                average.copy_(current)  # BatchNorm's counter of batches
