"""The VGG networks of the paper (arXiv 1409.1556, table 1), as data and one builder.

Owns the configurations and the module that they describe. A network takes normalised images and returns logits.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

HEADS = ("linear", "paper", "pooled")
STRIDE = 32  # five max pools of 2 x 2
HIDDEN = 4096


@dataclass(frozen=True, slots=True)
class Configuration:
    """One column of the paper's table 1.

    `blocks` gives, for each of the five blocks, its convolutions as (channels, kernel size).
    `response_norm` adds a local response normalisation after the first convolution (A-LRN).
    """

    column: str
    blocks: tuple[tuple[tuple[int, int], ...], ...]
    response_norm: bool = False


_CHANNELS = (64, 128, 256, 512, 512)


def _column(name: str, depths: tuple[int, ...], *, last_kernel: int = 3, response_norm: bool = False) -> Configuration:
    """Blocks of `depths` 3 x 3 convolutions; the last one of each block of three has `last_kernel`."""
    blocks = tuple(
        tuple((channels, last_kernel if i == 2 else 3) for i in range(depth))
        for channels, depth in zip(_CHANNELS, depths, strict=True)
    )
    return Configuration(name, blocks, response_norm)


CONFIGURATIONS: dict[str, Configuration] = {
    "vgg11": _column("A", (1, 1, 2, 2, 2)),
    "vgg11_lrn": _column("A-LRN", (1, 1, 2, 2, 2), response_norm=True),
    "vgg13": _column("B", (2, 2, 2, 2, 2)),
    "vgg16c": _column("C", (2, 2, 3, 3, 3), last_kernel=1),
    "vgg16": _column("D", (2, 2, 3, 3, 3)),
    "vgg19": _column("E", (2, 2, 4, 4, 4)),
}


class VGG(nn.Module):
    """A VGG that maps images (N, in_channels, S, S) to logits (N, num_classes).

    `head` is `linear`, a tutorial's (three linear layers with nothing between), `paper` (the same with ReLU and dropout
    0.5 after the first two) or `pooled` (global average pool, one linear layer). `width` multiplies the number of
    channels and hidden units. `channels` has the channels of the five blocks' outputs.

    Raises ValueError with the argument, its value and the allowed range.
    """

    def __init__(
        self,
        configuration: Configuration,
        num_classes: int,
        in_channels: int = 3,
        input_size: int = 224,
        head: str = "paper",
        batch_norm: bool = True,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        if input_size < STRIDE or input_size % STRIDE:
            raise ValueError(f"input_size is {input_size}, but must be a positive multiple of {STRIDE}")
        if head not in HEADS:
            raise ValueError(f"head is {head!r}, but must be one of {', '.join(HEADS)}")
        if configuration.response_norm and batch_norm:
            raise ValueError(f"batch_norm is True, but column {configuration.column} has its own normalisation")
        blocks, widths, channels = [], [], in_channels
        for i, convolutions in enumerate(configuration.blocks):
            block: list[nn.Module] = []
            for out_channels, kernel_size in convolutions:
                out = scale_width(out_channels, width)
                block.append(nn.Conv2d(channels, out, kernel_size, padding=kernel_size // 2))
                block += [nn.BatchNorm2d(out)] if batch_norm else []
                block.append(nn.ReLU(inplace=True))
                channels = out
            if i == 0 and configuration.response_norm:
                block.append(nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0))
            blocks.append(nn.Sequential(*block))
            widths.append(channels)
        self.blocks, self.channels = nn.ModuleList(blocks), tuple(widths)
        self.head = _build_head(head, channels, input_size // STRIDE, scale_width(HIDDEN, width), num_classes)
        initialise_weights(self)

    def features(self, images: Tensor, *, before_pool: bool = False) -> list[Tensor]:
        """The five block outputs, at strides 2, 4, 8, 16, 32, or at 1, 2, 4, 8, 16 with `before_pool`.

        Block i returns (N, C_i, S / stride, S / stride). The side S may be any multiple of 32 pixels.
        """
        maps, x = [], images
        for block in self.blocks:
            if before_pool:
                maps.append(full := block(x))
                x = F.max_pool2d(full, 2)
            else:
                maps.append(x := _pool_block(block, x))
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """(N, in_channels, S, S) -> logits (N, num_classes)."""
        logits: Tensor = self.head(self.features(images)[-1])
        return logits


def scale_width(units: int, width: float) -> int:
    """`units` times `width`, rounded. Raises ValueError if that is less than one unit."""
    result = round(units * width)
    if result < 1:
        raise ValueError(f"width is {width}, but must leave at least one of {units} units")
    return result


def initialise_weights(module: nn.Module) -> None:
    """Kaiming normal weights (He et al., arXiv 1502.01852, fan-in), zero biases.

    The variance of the activations stays the same through 19 layers, so networks without BatchNorm train from scratch.
    The paper had to pretrain configuration A for that (section 3.1). A layer's gain is that of the function after it:
    ReLU, or none.
    """
    order = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.ReLU)]
    for layer, behind in zip(order, [*order[1:], None], strict=True):
        # A module on the meta device has no values; asking for random ones would import a compiler.
        if isinstance(layer, nn.Conv2d | nn.Linear) and not layer.weight.is_meta:
            rectified = isinstance(layer, nn.Conv2d) or isinstance(behind, nn.ReLU)
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu" if rectified else "linear")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _pool_block(block: nn.Module, x: Tensor) -> Tensor:
    """max_pool2d(block(x), 2). A ReLU at the block's end runs after the pool, where it has a quarter of the work.

    Values and gradients are the same to the last bit, because a ReLU keeps the order of positive values.
    """
    assert isinstance(block, nn.Sequential)
    *layers, last = block
    for layer in layers:
        x = layer(x)
    if not isinstance(last, nn.ReLU):
        return F.max_pool2d(last(x), 2)
    result: Tensor = last(F.max_pool2d(x, 2))
    return result


def _build_head(kind: str, channels: int, grid: int, hidden: int, num_classes: int) -> nn.Sequential:
    if kind == "pooled":
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
    layers: list[nn.Module] = [nn.Flatten()]
    units = channels * grid * grid
    for _ in range(2):
        layers.append(nn.Linear(units, hidden))
        layers += [nn.ReLU(inplace=True), nn.Dropout(0.5)] if kind == "paper" else []
        units = hidden
    return nn.Sequential(*layers, nn.Linear(units, num_classes))
