"""Pictures of random soft shapes, each unlike the others."""

import torch
from torch import Tensor
from torch.nn import functional as F

from training.data.dataset import Split


def draw_pictures(count: int, seed: int, size: int = 32, channels: int = 3) -> Tensor:
    """(count, size, size, channels) uint8."""
    generator = torch.Generator().manual_seed(seed)
    brightness = torch.full((count, 1, size, size), 127.0)
    for side in (2, 4, 8, 16):  # finer shapes have less contrast, as in photographs
        noise = torch.randn(count, 1, side, side, generator=generator)
        brightness = brightness + 100 / side * F.interpolate(noise, size, mode="bicubic")
    tint = 20 * torch.randn(count, channels, 1, 1, generator=generator)
    return (brightness + tint).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def make_split(images: Tensor, label: int = 0) -> Split:
    """All of one label."""
    return Split(images, torch.full((len(images),), label))
