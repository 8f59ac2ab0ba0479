"""The VGG networks: sizes as published, shapes, normalisation, and a start from which they learn."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.networks.registry import NAMES, Architecture, build_network
from models.networks.vgg import CONFIGURATIONS, HEADS, VGG

VGG_NAMES = [name for name in NAMES if name != "alexnet"]


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def small(name: str, head: str = "paper", input_size: int = 32, in_channels: int = 3, width: float = 1 / 8) -> VGG:
    torch.manual_seed(0)
    network = build_network(Architecture(name, 5, in_channels, input_size, head, width))
    assert isinstance(network, VGG)
    return network


# arXiv 1409.1556 gives them in millions (table 2), torchvision's documentation of its weights to the last one;
# A-LRN has no more than A, and C lacks 8/9 of three of D's convolutions: 8 (256² + 2 · 512²) fewer.
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("vgg11", 132_863_336),
        ("vgg11_lrn", 132_863_336),
        ("vgg13", 133_047_848),
        ("vgg16c", 138_357_544 - 8 * (256**2 + 2 * 512**2)),
        ("vgg16", 138_357_544),
        ("vgg16_bn", 138_365_992),
        ("vgg19", 143_667_240),
    ],
)
def test_parameter_counts_are_those_published(name: str, count: int) -> None:
    """At 224 pixels and 1000 classes with the paper's head, every column has its published size."""
    with torch.device("meta"):
        assert parameters(build_network(Architecture(name, num_classes=1000))) == count


def test_the_linear_head_has_the_size_of_the_paper_head() -> None:
    """The heads `linear` and `paper` differ only in what has no weights."""
    with torch.device("meta"):
        counts = {
            head: parameters(build_network(Architecture("vgg16_bn", 1000, head=head))) for head in ("linear", "paper")
        }
    assert counts["linear"] == counts["paper"] == 138_365_992


@pytest.mark.parametrize("name", VGG_NAMES)
def test_every_network_gives_logits(name: str) -> None:
    """Every name with every head builds and maps (N, C, S, S) to (N, K)."""
    images = torch.randn(2, 3, 32, 32)
    assert {small(name, head, width=1 / 16)(images).shape for head in HEADS} == {(2, 5)}


@pytest.mark.parametrize("input_size", [32, 64, 96])
def test_input_size_and_channels_are_free(input_size: int) -> None:
    """Any multiple of 32 pixels and one channel will do."""
    network = small("vgg11", input_size=input_size, in_channels=1)
    assert network(torch.randn(1, 1, input_size, input_size)).shape == (1, 5)


def test_the_linear_head_is_linear() -> None:
    """With nothing between its layers the head `linear` is an affine map."""
    head = small("vgg11", "linear").double().head
    a, b, zero = torch.randn(1, 64, 1, 1).double(), torch.randn(1, 64, 1, 1).double(), torch.zeros(1, 64, 1, 1).double()
    torch.testing.assert_close(head(a + b) + head(zero), head(a) + head(b))


def test_the_paper_head_has_dropout_and_relu() -> None:
    """The head `paper` has a ReLU and dropout of one half behind its first two layers."""
    head = list(small("vgg11").head)
    assert [type(layer).__name__ for layer in head] == [
        "Flatten",
        "Linear",
        "ReLU",
        "Dropout",
        "Linear",
        "ReLU",
        "Dropout",
        "Linear",
    ]
    assert {layer.p for layer in head if isinstance(layer, nn.Dropout)} == {0.5}


def test_feature_strides() -> None:
    """`features` gives the five maps at strides 2 to 32, or 1 to 16 before the pools, which explain the difference."""
    network, images = small("vgg16_bn").eval(), torch.randn(1, 3, 64, 96)
    pooled, full = network.features(images), network.features(images, before_pool=True)
    assert [tuple(x.shape[1:]) for x in pooled] == [(8, 32, 48), (16, 16, 24), (32, 8, 12), (64, 4, 6), (64, 2, 3)]
    assert [tuple(x.shape[1:]) for x in full] == [(8, 64, 96), (16, 32, 48), (32, 16, 24), (64, 8, 12), (64, 4, 6)]
    for before, after in zip(full, pooled, strict=True):
        assert torch.equal(F.max_pool2d(before, 2), after)


@pytest.mark.parametrize("name", ["vgg11_lrn", "vgg13_bn"])
def test_a_relu_behind_its_pool_gives_the_same_gradients(name: str) -> None:
    """With the ReLU before or behind the pool the last map and every gradient are the same, to the last bit."""
    gradients, images = [], torch.randn(4, 3, 64, 64)
    for before_pool in (False, True):
        network = small(name).train()
        last = network.features(images, before_pool=before_pool)[-1]
        (F.max_pool2d(last, 2) if before_pool else last).square().sum().backward()  # type: ignore[no-untyped-call]
        gradients.append([weight.grad for weight in network.blocks.parameters()])
    for ours, plain in zip(*gradients, strict=True):
        assert ours is not None
        assert torch.equal(ours, plain)
        assert ours.count_nonzero()


def test_the_last_feature_map_feeds_the_head() -> None:
    """The network is its head on its last feature map."""
    network, images = small("vgg13").eval(), torch.randn(2, 3, 32, 32)
    assert torch.equal(network(images), network.head(network.features(images)[-1]))


def test_logits_are_not_probabilities() -> None:
    """No softmax is applied inside: rows have negative values and do not sum to 1."""
    logits = small("vgg11", "linear").eval()(torch.randn(8, 3, 32, 32))
    assert logits.min() < 0
    assert not torch.allclose(logits.sum(dim=1), torch.ones(8), atol=1e-2)


# The paper's table 1, read column by column: kernel sizes of the five stages.
@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("vgg11", "3 3 33 33 33"),
        ("vgg11_lrn", "3 3 33 33 33"),
        ("vgg13", "33 33 33 33 33"),
        ("vgg16c", "33 33 331 331 331"),
        ("vgg16", "33 33 333 333 333"),
        ("vgg19", "33 33 3333 3333 3333"),
    ],
)
def test_columns_are_the_paper_s_table(name: str, stages: str) -> None:
    """Each column's convolutions have the kernel sizes and channels of table 1, and keep the map's size."""
    with torch.device("meta"):
        network = small(name, width=1)
    kernels = [[m for m in block.modules() if isinstance(m, nn.Conv2d)] for block in network.blocks]
    assert " ".join("".join(str(conv.kernel_size[0]) for conv in stage) for stage in kernels) == stages
    assert [{conv.out_channels for conv in stage} for stage in kernels] == [{64}, {128}, {256}, {512}, {512}]
    assert all(conv.padding[0] == conv.kernel_size[0] // 2 for stage in kernels for conv in stage)


def test_batch_norm_stands_behind_every_convolution() -> None:
    """With `_bn` each convolution is followed by a batch norm and a ReLU, without it by the ReLU."""
    for name, cycle in (("vgg16_bn", ["Conv2d", "BatchNorm2d", "ReLU"]), ("vgg16", ["Conv2d", "ReLU"])):
        layers = [type(layer).__name__ for block in small(name).blocks for layer in block.children()]
        assert layers == cycle * 13


def test_response_norm_is_the_paper_s() -> None:
    """A-LRN normalises its first ReLU as a / (2 + 1e-4 · sum of a² over 5 channels)^0.75, as section 3.3 of AlexNet."""
    torch.manual_seed(0)
    first = small("vgg11_lrn").blocks[0]
    activations = 100 * torch.rand(1, 8, 4, 4)
    squares = F.pad(activations.square(), (0, 0, 0, 0, 2, 2))  # two more channels of zeros on either side
    near: Tensor = sum((squares[:, i : i + 8] for i in range(5)), torch.zeros(1, 8, 4, 4))
    norm = first.get_submodule("2")
    torch.testing.assert_close(norm(activations), activations / (2 + 1e-4 * near) ** 0.75)
    with torch.device("meta"):
        found = {name for name in VGG_NAMES for m in small(name).modules() if isinstance(m, nn.LocalResponseNorm)}
    assert found == {"vgg11_lrn"}


@pytest.mark.parametrize("head", ["linear", "paper"])
def test_initialisation_keeps_the_variance(head: str) -> None:
    """Through 19 layers without batch norm the logits neither vanish nor explode, and still depend on the image."""
    logits = small("vgg19", head, width=1 / 4).eval()(torch.randn(32, 3, 32, 32))
    assert 0.1 < logits.std() < 10
    assert (logits - logits.mean(dim=0)).std() > 0.01


def test_a_deep_network_without_batch_norm_learns() -> None:
    """VGG-16 without batch norm tells two easy classes apart within a few steps from its fresh weights."""
    network = small("vgg16", "linear")
    labels = torch.arange(16) % 2
    images = torch.randn(16, 3, 32, 32) / 2
    images[labels == 1, 0] += 1
    weights, losses = list(network.parameters()), []
    for _ in range(25):
        loss = F.cross_entropy(network(images), labels)
        with torch.no_grad():
            for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight.sub_(0.03 * gradient)
        losses.append(loss.item())
    assert min(losses) < math.log(2) / 2  # half of what guessing one of the two costs, where PyTorch's own start stays


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_size": 33}, "input_size is 33, but must be a positive multiple of 32"),
        ({"input_size": 0}, "input_size is 0, but must be a positive multiple of 32"),
        ({"head": "round"}, "head is 'round', but must be one of linear, paper, pooled"),
        ({"width": 1e-3}, "width is 0.001, but must leave at least one of 64 units"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    """An argument out of range is refused by its name, its value and the range."""
    with pytest.raises(ValueError, match=f"^{message}"):
        VGG(CONFIGURATIONS["vgg11"], 5, **arguments)  # type: ignore[arg-type]


def test_response_norm_excludes_batch_norm() -> None:
    """Column A-LRN has its own normalisation and takes no batch norm."""
    with pytest.raises(ValueError, match="batch_norm is True, but column A-LRN has its own normalisation"):
        VGG(CONFIGURATIONS["vgg11_lrn"], 5, batch_norm=True)
