"""AlexNet, the baseline: the single-column form (Krizhevsky, arXiv 1404.5997) that torchvision has.

Owns the network and its stem for small images.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from models.networks.vgg import HIDDEN, initialise_weights, scale_width


@dataclass(frozen=True, slots=True)
class Stem:
    """The first convolution, and the side of the map that the head takes, for images of at least `min_input` pixels."""

    min_input: int
    kernel_size: int
    stride: int
    padding: int
    grid: int


# The published stem has stride 4. Below 63 pixels its three pools would have no pixel left.
STEMS = (Stem(63, kernel_size=11, stride=4, padding=2, grid=6), Stem(15, kernel_size=3, stride=1, padding=1, grid=3))


class AlexNet(nn.Module):
    """Maps images (N, in_channels, S, S) to logits (N, num_classes).

    From 63 pixels on it is torchvision's network. For smaller images the first convolution is 3 x 3 with stride 1, and
    the map in front of the head is 3 x 3. Raises ValueError for an `input_size` below 15.
    """

    def __init__(self, num_classes: int, in_channels: int = 3, input_size: int = 224, width: float = 1.0) -> None:
        super().__init__()
        stem = next((s for s in STEMS if input_size >= s.min_input), None)
        if stem is None:
            raise ValueError(f"input_size is {input_size}, but must be at least {STEMS[-1].min_input}")
        c64, c192, c384, c256 = (scale_width(units, width) for units in (64, 192, 384, 256))
        hidden = scale_width(HIDDEN, width)
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, c64, stem.kernel_size, stem.stride, stem.padding),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(c64, c192, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(c192, c384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(c384, c256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(c256, c256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(stem.grid),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(c256 * stem.grid * stem.grid, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, num_classes),
        )
        initialise_weights(self)

    def forward(self, images: Tensor) -> Tensor:
        """(N, in_channels, S, S) -> logits (N, num_classes)."""
        logits: Tensor = self.head(self.body(images))
        return logits
