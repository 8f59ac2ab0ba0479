"""Normalisation: from uint8 pixels to the network's input.

Owns the arithmetic. It is apart from `models.preprocess` because it needs torch.
"""

import torch
from torch import Tensor

from models.preprocess import Preprocessing


def normalise(batch: Tensor, preprocessing: Preprocessing) -> Tensor:
    """(N, H, W, C) uint8 on any device -> (N, C, H, W) float32, channels last in memory.

    One multiplication and addition would take half the time, but differ from torchvision's in the last bit; in
    place, because fresh memory costs a large batch more than the arithmetic.
    """
    # One small copy that waits for nothing the device still computes.
    mean, std = torch.tensor([preprocessing.mean, preprocessing.std]).to(batch.device, non_blocking=True)
    return (batch / 255).sub_(mean).div_(std).permute(0, 3, 1, 2)
