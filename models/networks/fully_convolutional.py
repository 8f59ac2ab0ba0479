"""A trained VGG as a fully convolutional network, for images of any size that is not smaller than its own.

Owns the paper's rewrite (arXiv 1409.1556, section 3.2): every linear layer becomes a convolution.
"""

import math

import torch
from torch import Tensor, nn

from models.networks.vgg import STRIDE, VGG


class FullyConvolutional(nn.Module):
    """Maps images (N, C, H, W) to logits (N, K). They are those of the VGG if H and W are its input size.

    On larger images they are the mean over all windows of that size, at steps of 32 pixels. There is one difference:
    at a window's edge the convolutions use the pixels beyond it, where the VGG has zeros (section 4.3). Every head can
    be rewritten. The weights are moved out of `vgg`, which cannot be used afterwards. For evaluation only.
    """

    def __init__(self, vgg: VGG) -> None:
        super().__init__()
        self.head = _convolutional(vgg.head, vgg.channels[-1])
        vgg.head = nn.Sequential()  # its weights are in ours
        self.body = vgg
        self.input_size = STRIDE * next(layer.kernel_size[0] for layer in self.head if isinstance(layer, nn.Conv2d))
        self.eval()

    def scores(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> class score maps (N, K, h, w): one score a window, h = (H - input size) // 32 + 1.

        Raises ValueError for images smaller than the input size.
        """
        if min(images.shape[2:]) < self.input_size:
            height, width = images.shape[2:]
            raise ValueError(f"images are {height} x {width} pixels, but must be at least {self.input_size} each way")
        maps: Tensor = self.head(self.body.features(images)[-1])
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> logits (N, K): the score maps' spatial means."""
        return self.scores(images).mean(dim=(2, 3))


def _convolutional(head: nn.Sequential, channels: int) -> nn.Sequential:
    """The head of a VGG for maps of `channels` channels and any size. The weights are shared."""
    layers: list[nn.Module] = []
    for layer in head:
        if isinstance(layer, nn.Linear):
            layers.append(_convolution(layer, channels))
            channels = layer.out_features
        elif not isinstance(layer, nn.Flatten | nn.AdaptiveAvgPool2d):  # a mean before a linear layer is one behind it
            layers.append(layer)
    return nn.Sequential(*layers)


def _convolution(linear: nn.Linear, channels: int) -> nn.Conv2d:
    """The same sums over a window. For the first layer that is the whole map, for the others one pixel."""
    side = math.isqrt(linear.in_features // channels)
    with torch.device("meta"):
        conv = nn.Conv2d(channels, linear.out_features, side)
    conv.weight = nn.Parameter(linear.weight.detach().view(-1, channels, side, side))
    conv.bias = nn.Parameter(linear.bias.detach())
    return conv
