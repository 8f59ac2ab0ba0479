"""Random changes of training images that leave their labels true.

Owns them all, in batches, on whatever device the images are.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from training.recipe import Recipe


class Augmentation:
    """Changes (N, T, T, C) uint8 images into (N, S, S, C) ones by a recipe, whose `train_side` is T.

    `count` is the number of all training images.

    What is drawn is drawn on the CPU, from the generator given, and so is the same on every device.
    """

    def __init__(self, recipe: Recipe, count: int) -> None:
        self.recipe = recipe
        coins = torch.Generator().manual_seed(recipe.seed_for("flips"))
        self.first_flips = torch.randint(2, (count,), generator=coins)  # of epoch 0, where flips alternate

    def __call__(self, images: Tensor, indices: Tensor, epoch: int, generator: torch.Generator) -> Tensor:
        """`indices`, in CPU memory, says which of the training images these are; `epoch` counts from 0."""
        if images.shape[1] > self.recipe.size:
            images = self._cut(images, generator)
        images = self._moved(images, self._flips(indices, epoch, generator), generator)
        one_each = (len(images), 1, 1, 1)
        if self.recipe.contrast > 1:
            gain = self.recipe.contrast ** torch.rand(one_each, generator=generator).to(images.device)
            images = ((images - 127.5) * gain + 127.5).clamp(0, 255).to(torch.uint8)
        if self.recipe.invert:
            negative = torch.randint(2, one_each, generator=generator).bool().to(images.device)
            images = torch.where(negative, 255 - images, images)
        if self.recipe.cutout:
            images = self._with_holes(images, generator)
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

    def _cut(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """A random square of each image, all of them at one random scale from S to T.

        That of the batch, not of the image, as resizing needs one size; over many steps it is the same
        (scale jittering, arXiv 1409.1556, section 3.1).
        """
        n, size, stored = len(images), self.recipe.size, images.shape[1]
        side = int(torch.randint(size, stored + 1, (), generator=generator))
        planes = images.permute(0, 3, 1, 2).float()  # (N, C, T, T)
        scaled = F.interpolate(planes, side, mode="bilinear", antialias=True).round().clamp(0, 255).to(torch.uint8)
        starts = torch.randint(side - size + 1, (2, n, 1), generator=generator)
        rows, columns = (starts + torch.arange(size)).to(images.device)  # (N, S) each
        return _gathered(scaled.permute(0, 2, 3, 1), rows, columns)

    def _with_holes(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """A grey square in each image, its middle anywhere (DeVries and Taylor, arXiv 1708.04552)."""
        size = self.recipe.size
        middles = torch.randint(size, (2, len(images), 1), generator=generator)
        near = (torch.arange(size) - middles + 0.5).abs() < self.recipe.cutout * size / 2  # (2, N, S)
        rows, columns = near.to(images.device)
        hole = rows[:, :, None] & columns[:, None, :]
        return torch.where(hole[..., None], torch.tensor(127, dtype=torch.uint8, device=images.device), images)

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
        moved = _gathered(images, rows, columns)
        if self.recipe.border == "reflect":
            return moved
        rows, columns = ((sources >= 0) & (sources < size)).to(device)
        inside = rows[:, :, None] & columns[:, None, :]
        framed: Tensor = moved * inside[..., None]
        return framed


def _gathered(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(N, R, C, channels): of each image the pixels at its own (N, R) rows and (N, C) columns."""
    which = torch.arange(len(images), device=images.device)[:, None, None]
    gathered: Tensor = images[which, rows[:, :, None], columns[:, None, :]]
    return gathered


def reflected(positions: Tensor, size: int) -> Tensor:
    """Positions mirrored into 0..size-1 at the first and last one, as often as it takes."""
    last = size - 1
    return last - (last - positions.remainder(2 * last)).abs()
