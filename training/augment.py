"""Random changes of training images that leave their labels true.

Owns them all, in batches, on whatever device the images are. Knows nothing of labels, networks or files.
"""

import torch
from torch import Tensor

from training.config import Recipe


class Augmentation:
    """Changes (N, S, S, C) uint8 images by a recipe; `count` is the number of all training images.

    What is drawn is drawn on the CPU, from the generator given, and so is the same on every device.
    """

    def __init__(self, recipe: Recipe, count: int) -> None:
        self.recipe = recipe
        coins = torch.Generator().manual_seed(recipe.seed_for("flips"))
        self.first_flips = torch.randint(2, (count,), generator=coins)  # of epoch 0, where flips alternate

    def __call__(self, images: Tensor, indices: Tensor, epoch: int, generator: torch.Generator) -> Tensor:
        """`indices`, in CPU memory, says which of the training images these are; `epoch` counts from 0."""
        images = self._moved(images, self._flips(indices, epoch, generator), generator)
        one_each = (len(images), 1, 1, 1)
        if self.recipe.contrast > 1:
            gain = self.recipe.contrast ** torch.rand(one_each, generator=generator).to(images.device)
            images = ((images - 127.5) * gain + 127.5).clamp(0, 255).to(torch.uint8)
        if self.recipe.invert:
            negative = torch.randint(2, one_each, generator=generator).bool().to(images.device)
            images = torch.where(negative, 255 - images, images)
        return images

    def _flips(self, indices: Tensor, epoch: int, generator: torch.Generator) -> Tensor:
        """(N,) bool: which of the images are mirrored left to right.

        Alternating flips show an image and its mirror image in turn, so that two epochs in a row never
        show the same one (Jordan, arXiv 2404.00498).
        """
        if self.recipe.flip == "none":
            return torch.zeros(len(indices), dtype=torch.bool)
        if self.recipe.flip == "random":
            return torch.randint(2, (len(indices),), generator=generator).bool()
        return (self.first_flips[indices] + epoch) % 2 == 1

    def _moved(self, images: Tensor, flips: Tensor, generator: torch.Generator) -> Tensor:
        """Shrinks, shifts and mirrors by telling for each row and column of the result where it comes from.

        A shrunken image lands anywhere in the frame. Whole pixels are copied, none are mixed.
        """
        n, size, device = len(images), images.shape[1], images.device
        scale = 1 - self.recipe.shrink * torch.rand((n, 1), generator=generator)
        room = self.recipe.shift + (1 - scale) / 2  # to each side, as a share of the size
        shift = (2 * torch.rand((2, n, 1), generator=generator) - 1) * room * size
        middle = (size - 1) / 2
        sources = ((torch.arange(size) - middle - shift) / scale + middle).round().long()  # (2, N, S)
        sources[1] = torch.where(flips[:, None], size - 1 - sources[1], sources[1])
        rows, columns = reflected(sources, size).to(device)
        moved: Tensor = images[torch.arange(n, device=device)[:, None, None], rows[:, :, None], columns[:, None, :]]
        if self.recipe.border == "reflect":
            return moved
        rows, columns = ((sources >= 0) & (sources < size)).to(device)
        inside = rows[:, :, None] & columns[:, None, :]
        framed: Tensor = moved * inside[..., None]
        return framed


def reflected(positions: Tensor, size: int) -> Tensor:
    """Positions mirrored into 0..size-1 at the first and last one, as often as it takes."""
    last = size - 1
    return last - (last - positions.remainder(2 * last)).abs()
