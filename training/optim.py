"""The optimiser, the rate's way through a run, and the running average of the weights."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from training.recipe import Recipe


def sgd(model: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """SGD; biases and BatchNorm, the one-dimensional weights, do not decay, and what is frozen does not move.

    Each group carries its `factor` of the rate: that of BatchNorm's biases is the recipe's.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    shifts = {id(norm.bias) for norm in norms}
    free = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in free if p.ndim > 1], "weight_decay": recipe.weight_decay, "factor": 1.0},
        {"params": [p for p in free if p.ndim <= 1 and id(p) not in shifts], "weight_decay": 0.0, "factor": 1.0},
        {"params": [p for p in free if id(p) in shifts], "weight_decay": 0.0, "factor": recipe.bias_lr_factor},
    ]
    nesterov = recipe.nesterov and recipe.momentum > 0
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=nesterov)


def set_lr(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def lr_at(step: int, steps: int, recipe: Recipe, accuracies: Sequence[float] = ()) -> float:
    """The learning rate of one of `steps` steps, counted from 0.

    `triangular` rises linearly to `rate` over the share `warmup` and falls linearly towards zero;
    `one_cycle` does the same on half cosines (after Smith, arXiv 1708.07120). `plateau` divides by 10 where
    the `accuracies` of the epochs so far stop growing (arXiv 1409.1556, section 3.1).
    """
    if recipe.schedule == "constant":
        return recipe.lr
    if recipe.schedule == "plateau":
        return float(recipe.lr / 10 ** plateaus(accuracies, recipe.patience))
    peak = round(recipe.warmup * (steps - 1))
    part = (step + 1) / (peak + 1) if step <= peak else (steps - step) / (steps - peak)
    if recipe.schedule == "one_cycle":
        part = (1 - math.cos(math.pi * part)) / 2
    return recipe.lr * part


def plateaus(accuracies: Sequence[float], patience: int) -> int:
    """How often `patience` epochs in a row brought nothing better than the best before them."""
    best, idle, found = -math.inf, 0, 0
    for accuracy in accuracies:
        idle = 0 if accuracy > best else idle + 1
        best = max(best, accuracy)
        if idle == patience:
            found, idle = found + 1, 0
    return found


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

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.updates = state["updates"]

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
