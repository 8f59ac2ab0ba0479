"""Heat maps, against closed forms and against what hiding their places does to a prediction."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from models.grad_cam import explain, grad_cam, layer_cam, split_into_blocks
from models.networks.alexnet import AlexNet
from models.networks.registry import Architecture, build_network
from models.networks.vgg import VGG
from models.normalise import normalise
from models.preprocess import Preprocessing
from tests.fakes.runs import ALONE, Killer, digits
from training.loop import train


def network(name: str, input_size: int, head: str = "paper", channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return build_network(Architecture(name, 4, channels, input_size, head, 1 / 8)).eval()


def last_layer(model: VGG) -> nn.Linear:
    layer = model.head[-1]
    assert isinstance(layer, nn.Linear)
    return layer


def scaled(heat: Tensor) -> Tensor:
    return heat / heat.max()


@pytest.mark.parametrize("index", range(4))
def test_with_a_pooled_head_it_is_cam(index: int) -> None:
    """Grad-CAM is then the class's weights over the last block's channels (Zhou et al., arXiv 1512.04150)."""
    model = network("vgg11_bn", 128, "pooled")
    assert isinstance(model, VGG)
    images = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        last = model.features(images, before_pool=True)[-1][0]
        right = torch.einsum("k,khw->hw", last_layer(model).weight[index], last).relu()
    assert right.shape == (8, 8)
    assert torch.allclose(
        torch.from_numpy(explain(split_into_blocks(model), images, index).heat_map), scaled(right), atol=1e-5
    )


@pytest.mark.parametrize(("size", "block"), [(32, 2), (64, 3), (128, 4)])
@pytest.mark.parametrize("head", ["pooled", "linear", "paper"])
def test_the_block_is_the_last_with_enough_places(head: str, size: int, block: int) -> None:
    """A network's own backward pass gives the same map, whole and without any splitting."""
    model = network("vgg13_bn", size, head)
    assert isinstance(model, VGG)
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    kept: list[Tensor] = []
    hook = model.blocks[block].register_forward_hook(lambda _, __, output: kept.append(output))
    maps = model.features(images, before_pool=True)
    hook.remove()
    logits = model.head(F.max_pool2d(maps[-1], 2))[0]
    [gradient] = torch.autograd.grad(logits[2], kept[0])
    right = (grad_cam if block == 4 else layer_cam)(kept[0].detach(), gradient)
    explanation = explain(split_into_blocks(model), images, 2)
    assert explanation.heat_map.shape == (8, 8)
    assert torch.allclose(torch.from_numpy(explanation.heat_map), scaled(right), atol=1e-5)
    assert np.allclose(explanation.logits, logits.detach(), atol=1e-5)


@pytest.mark.parametrize(("size", "side"), [(32, 7), (63, 7), (224, 13)])
def test_alexnet(size: int, side: int) -> None:
    """Its blocks are what lies between its pools."""
    model = network("alexnet", size)
    assert isinstance(model, AlexNet)
    explanation = explain(split_into_blocks(model), torch.randn(1, 3, size, size))
    assert explanation.heat_map.shape == (side, side)
    with pytest.raises(TypeError, match="Linear"):
        split_into_blocks(nn.Linear(1, 1))


def test_a_label_without_any_evidence_has_a_map_of_zeros() -> None:
    """There is nothing to divide by. Values that are not finite are an error."""
    model = network("vgg11", 128, "pooled")
    assert isinstance(model, VGG)
    nn.init.constant_(last_layer(model).weight, -1.0)
    assert not explain(split_into_blocks(model), torch.randn(1, 3, 128, 128)).heat_map.any()
    with pytest.raises(ValueError, match="finite"):
        explain(split_into_blocks(model), torch.full((1, 3, 128, 128), float("inf")))


def test_hiding_what_the_map_marks_matters_more_than_hiding_as_much_elsewhere() -> None:
    """Over 150 digits the label's probability falls more, by median, where the marked quarter becomes background."""
    dataset, recipe = digits(epochs=6, batch_size=100)
    trained = train(dataset, recipe, ALONE, Killer())
    model, preprocessing = trained.model.eval(), dataset.preprocessing
    images = torch.as_tensor(dataset.splits["test"].images[:150])
    blocks, generator, advantages = split_into_blocks(model), np.random.default_rng(0), []
    for pixels in images:
        explanation = explain(blocks, normalise(pixels[None], preprocessing))
        heat = explanation.heat_map
        cells = np.argsort(-heat, axis=None)
        count = heat.size // 4
        hidden = [cells[:count], generator.choice(cells[count:], count, replace=False)]
        marked, elsewhere = (
            fall(model, pixels, cells, heat.shape[0], explanation.index, preprocessing) for cells in hidden
        )
        advantages.append(marked - elsewhere)
    assert np.median(advantages) > 0


def fall(
    model: nn.Module, pixels: Tensor, cells: NDArray[np.intp], side: int, index: int, preprocessing: Preprocessing
) -> float:
    """By how much the probability of a label falls where these cells of the map are made the image's background."""
    step = pixels.shape[0] // side
    covered = pixels.clone()
    for cell in cells:
        row, column = divmod(int(cell), side)
        covered[row * step : (row + 1) * step, column * step : (column + 1) * step] = pixels.flatten().median()
    with torch.no_grad():
        before, after = (
            model(normalise(image[None], preprocessing)).softmax(1)[0, index] for image in (pixels, covered)
        )
    return float(before - after)
