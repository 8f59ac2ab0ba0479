"""Names of architectures, and the function that builds a network from a name and its arguments.

Owns the `Architecture` record that a checkpoint stores.
"""

from dataclasses import dataclass

from torch import nn

from models.networks.alexnet import AlexNet
from models.networks.vgg import CONFIGURATIONS, HEADS, VGG

BATCH_NORM_SUFFIX = "_bn"
NAMES = (
    *CONFIGURATIONS,
    *(name + BATCH_NORM_SUFFIX for name, c in CONFIGURATIONS.items() if not c.response_norm),
    "alexnet",
)


@dataclass(frozen=True, slots=True)
class Architecture:
    """Everything that determines a network's shape.

    `head` is one of `linear`, `paper`, `pooled`; AlexNet has only `paper`.
    Raises ValueError, naming the field, its value and the allowed range.
    """

    name: str
    num_classes: int
    in_channels: int = 3
    input_size: int = 224
    head: str = "paper"
    width: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ValueError(f"architecture is {self.name!r}, but must be one of {', '.join(NAMES)}")
        if self.head == "blog":
            raise ValueError(
                "head is 'blog', which is now called 'linear': train the network again, or convert it again"
            )
        if self.head not in (heads := ("paper",) if self.name == "alexnet" else HEADS):
            raise ValueError(f"head is {self.head!r}, but {self.name} has {', '.join(heads)}")
        if self.num_classes < 2:
            raise ValueError(f"num_classes is {self.num_classes}, but must be at least 2")
        if self.in_channels not in (1, 3):
            raise ValueError(f"in_channels is {self.in_channels}, but must be 1 (grayscale) or 3 (RGB)")
        if not 0 < self.width <= 16:
            raise ValueError(f"width is {self.width}, but must lie in (0, 16]")


def build_network(architecture: Architecture) -> nn.Module:
    """A freshly initialised network in float32: (N, C, S, S) normalised images -> (N, K) logits."""
    a = architecture
    if a.name == "alexnet":
        return AlexNet(a.num_classes, a.in_channels, a.input_size, a.width)
    batch_norm = a.name.endswith(BATCH_NORM_SUFFIX)
    configuration = CONFIGURATIONS[a.name.removesuffix(BATCH_NORM_SUFFIX)]
    return VGG(configuration, a.num_classes, a.in_channels, a.input_size, a.head, batch_norm, a.width)
