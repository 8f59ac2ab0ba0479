"""A U-Net (Ronneberger et al., arXiv 1505.04597) whose contracting path is a VGG: logits for every pixel.

Owns the expanding path. The network takes normalised images and returns logits.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from models.networks.vgg import STRIDE, VGG, initialise_weights


class UNet(nn.Module):
    """Maps images (N, C, H, W), H and W multiples of 32, to logits (N, num_classes, H, W).

    The network contains `encoder` with the weights it has, without its head. Each of four steps up is the paper's
    (section 2). A 2 x 2 up-convolution gives as many channels as the encoder's map of that size has. Both maps are
    concatenated, and two 3 x 3 convolutions follow. A 1 x 1 convolution ends the network. Unlike in the paper, padding
    keeps the size, and BatchNorm follows each 3 x 3 convolution.

    Raises ValueError, naming the argument, its value and the allowed range.
    """

    def __init__(self, encoder: VGG, num_classes: int) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes is {num_classes}, but must be at least 1")
        encoder.head = nn.Sequential()  # its weights would have no gradient
        self.encoder = encoder
        steps = [*pairwise(encoder.channels[::-1])]  # (channels below, channels beside), from the bottom up
        self.ups = nn.ModuleList(nn.ConvTranspose2d(below, beside, 2, stride=2) for below, beside in steps)
        self.joins = nn.ModuleList(nn.Sequential(*_conv(2 * c, c), *_conv(c, c)) for _, c in steps)
        self.classify = nn.Conv2d(encoder.channels[0], num_classes, 1)
        initialise_weights(self.joins)
        initialise_weights(self.classify)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> logits (N, num_classes, H, W). Raises ValueError for a side that is no multiple of 32."""
        if any(side == 0 or side % STRIDE for side in images.shape[2:]):
            height, width = images.shape[2:]
            raise ValueError(f"images are {height} x {width} pixels, but both must be multiples of {STRIDE}")
        *beside, x = self.encoder.features(images, before_pool=True)  # strides 1, 2, 4, 8 and 16
        for up, join, skip in zip(self.ups, self.joins, reversed(beside), strict=True):
            x = join(torch.cat([skip, up(x)], dim=1))
        logits: Tensor = self.classify(x)
        return logits


def _conv(in_channels: int, out_channels: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)
