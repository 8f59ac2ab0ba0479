"""State dicts of torchvision's networks and of the tutorial's class become the same functions here."""

import copy
import functools
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

from models.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from models.export.timm import write_timm
from models.golden import record_golden_sample
from models.metadata import CheckpointMetadata
from models.networks.registry import Architecture, build_network
from models.preprocess import Preprocessing
from models.probabilities import softmax
from models.state_dicts.importing import Expected, import_weights
from tests.fakes.images import random_image
from tests.fakes.lively import lively

SHRINK, CLASSES = 8, 10
TORCHVISION = ["vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"]


@functools.cache
def from_torchvision(name: str) -> Any:
    """Torchvision's network of that name with an eighth of its channels."""
    with torch.device("meta"):
        network = getattr(torchvision.models, name)(num_classes=CLASSES)
    for part in (network.features, network.classifier):
        for i, layer in enumerate(part):
            if isinstance(layer, nn.Conv2d):
                outputs, inputs = layer.out_channels // SHRINK, layer.in_channels // (SHRINK if i else 1)
                kernel_size, stride, padding = layer.kernel_size[0], layer.stride[0], int(layer.padding[0])
                part[i] = nn.Conv2d(inputs, outputs, kernel_size, stride, padding)
            elif isinstance(layer, nn.BatchNorm2d):
                part[i] = nn.BatchNorm2d(layer.num_features // SHRINK)
            elif isinstance(layer, nn.Linear):
                outputs = CLASSES if layer.out_features == CLASSES else layer.out_features // SHRINK
                part[i] = nn.Linear(layer.in_features // SHRINK, outputs)
    return lively(network)


class VGGNet(nn.Module):
    """The tutorial's class: five blocks that are registered twice, three linear layers, softmax in `forward`."""

    def __init__(self, layers: int = 16, num_classes: int = CLASSES, size: int = 64) -> None:
        super().__init__()
        deep = {16: 3, 19: 4}[layers]
        channels = [3, 64 // SHRINK, 128 // SHRINK, 256 // SHRINK, 512 // SHRINK, 512 // SHRINK]
        for i, depth in enumerate((2, 2, deep, deep, deep)):
            setattr(self, f"conv{i + 1}", self.block(channels[i], channels[i + 1], depth))
        self.features = nn.Sequential(*(getattr(self, f"conv{i}") for i in range(1, 6)))
        hidden = 4096 // SHRINK
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels[5] * (size // 32) ** 2, hidden),
            nn.Linear(hidden, hidden),
            nn.Linear(hidden, num_classes),
        )

    @staticmethod
    def block(inputs: int, outputs: int, depth: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for i in range(depth):
            layers += [nn.Conv2d(outputs if i else inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
        return nn.Sequential(*layers, nn.MaxPool2d(2))

    def forward(self, images: Tensor) -> Tensor:
        return torch.softmax(self.classifier(self.features(images)), dim=1)


class Nested(VGGNet):
    """The same with other names inside: each convolution with its batch norm in a module of its own."""

    @staticmethod
    def block(inputs: int, outputs: int, depth: int) -> nn.Sequential:
        layers = list(VGGNet.block(inputs, outputs, depth))
        return nn.Sequential(*(nn.Sequential(*layers[3 * i : 3 * i + 3]) for i in range(depth)), layers[-1])


@functools.cache
def from_tutorial(layers: int = 16) -> VGGNet:
    network = lively(VGGNet(layers))
    assert isinstance(network, VGGNet)
    return network


def saved(tmp_path: Path, contents: Any, **options: Any) -> Path:
    path = tmp_path / "weights.pth"
    torch.save(contents.state_dict() if isinstance(contents, nn.Module) else contents, path, **options)
    return path


def logits(network: nn.Module, size: int) -> Tensor:
    torch.manual_seed(1)
    with torch.inference_mode():
        result: Tensor = network(torch.randn(2, 3, size, size))
    return result


def load_state_dict_file(
    path: Path, architecture: str | None = None, **expected: Any
) -> tuple[Architecture, nn.Module]:
    found = import_weights(path, Expected(architecture=architecture, **expected))
    return found.architecture, found.model


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_s_vgg_is_the_same_function(name: str, tmp_path: Path) -> None:
    """Each of torchvision's VGGs gives its own logits at 224 pixels, so its own softmax within 1e-5."""
    theirs = from_torchvision(name)
    architecture, ours = load_state_dict_file(saved(tmp_path, theirs), input_size=224)
    assert architecture == Architecture(name, CLASSES, 3, 224, "paper", 1 / SHRINK)
    assert not any(module.training for module in ours.modules())
    expected = logits(theirs, 224)
    assert expected.std() > 0.1
    torch.testing.assert_close(logits(ours, 224), expected)
    torch.testing.assert_close(softmax(logits(ours, 224)), expected.softmax(dim=1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [32, 64, 96, 256, 448])
def test_torchvision_s_pool_folds_into_the_head(size: int, tmp_path: Path) -> None:
    """At another size, where torchvision pools the last map to 7 x 7, the function is still the same."""
    theirs = from_torchvision("vgg11")
    architecture, ours = load_state_dict_file(saved(tmp_path, theirs), "vgg11", input_size=size)
    assert architecture.input_size == size
    torch.testing.assert_close(logits(ours, size), logits(theirs, size))


@pytest.mark.parametrize("size", [63, 224])
def test_torchvision_s_alexnet_is_the_same_function(size: int, tmp_path: Path) -> None:
    """AlexNet too, at any size that it can have."""
    theirs = from_torchvision("alexnet")
    architecture, ours = load_state_dict_file(saved(tmp_path, theirs), input_size=size)
    assert architecture == Architecture("alexnet", CLASSES, 3, size, "paper", 1 / SHRINK)
    torch.testing.assert_close(logits(ours, size), logits(theirs, size))


@pytest.mark.parametrize("layers", [16, 19])
def test_the_tutorial_s_class_is_the_same_function(layers: int, tmp_path: Path) -> None:
    """Its own softmax is the softmax of our logits, and all of the architecture is read from its tensors."""
    theirs = from_tutorial(layers)
    architecture, ours = load_state_dict_file(saved(tmp_path, theirs))
    assert architecture == Architecture(f"vgg{layers}_bn", CLASSES, 3, 64, "linear", 1 / SHRINK)
    torch.testing.assert_close(softmax(logits(ours, 64)), logits(theirs, 64), rtol=0, atol=1e-5)


def test_names_within_the_tutorial_s_blocks_do_not_matter(tmp_path: Path) -> None:
    """The same class with its layers nested otherwise converts to the same function."""
    theirs = lively(Nested(size=32))
    assert "conv5.2.1.running_var" in theirs.state_dict()
    architecture, ours = load_state_dict_file(saved(tmp_path, theirs), "vgg16_bn", in_channels=3, input_size=32)
    assert architecture.head == "linear"
    torch.testing.assert_close(softmax(logits(ours, 32)), logits(theirs, 32), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {}},
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {"state_dict": {f"module._orig_mod.{name}": tensor for name, tensor in state.items()}},
        lambda state: {name: tensor for name, tensor in state.items() if "num_batches_tracked" not in name},
        lambda state: {name: nn.Parameter(t) if t.is_floating_point() else t for name, t in state.items()},
        lambda state: {
            name: t.to(memory_format=torch.channels_last) if t.dim() == 4 else t for name, t in state.items()
        },
    ],
    ids=["state_dict", "model", "DataParallel", "compiled", "before 0.4.1", "parameters", "channels last"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_usual_ways_of_saving_are_read(wrap: Any, zipped: bool, tmp_path: Path) -> None:
    """Training scripts wrap state dicts in several ways, and old files are not zipped."""
    theirs = from_torchvision("vgg11_bn")
    path = saved(tmp_path, wrap(theirs.state_dict()), _use_new_zipfile_serialization=zipped)
    _, ours = load_state_dict_file(path, input_size=32)
    torch.testing.assert_close(logits(ours, 32), logits(theirs, 32))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    """Half and double weights are taken over as float32."""
    theirs = copy.deepcopy(from_torchvision("vgg11")).to(dtype)
    _, ours = load_state_dict_file(saved(tmp_path, theirs), input_size=32)
    assert {parameter.dtype for parameter in ours.parameters()} == {torch.float32}
    torch.testing.assert_close(logits(ours, 32), logits(theirs.float(), 32))


def test_the_network_does_not_depend_on_the_file(tmp_path: Path) -> None:
    """Once read, the weights stay as they are whatever happens to the file."""
    path = saved(tmp_path, from_torchvision("vgg11"))
    _, ours = load_state_dict_file(path, input_size=32)
    before = logits(ours, 32)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert torch.equal(logits(ours, 32), before)


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        ("tutorial", {"in_channels": 1}, "in_channels is given as 1, but the weights are for 3"),
        ("tutorial", {"input_size": 32}, "input_size is given as 32, but the weights are for 64"),
        (
            "tutorial",
            {"architecture": "vgg19_bn"},
            "architecture is given as vgg19_bn, but the weights are for vgg16_bn",
        ),
        ("vgg16", {"architecture": "vgg16_bn", "input_size": 224}, "given as vgg16_bn, but the weights are for vgg16"),
        ("vgg16", {}, r"does not tell its input size, .* give it \(--input-size\)"),
        ("vgg16", {"input_size": 100}, "input_size is 100, but must be a positive multiple of 32"),
        ("vgg16", {"input_size": 0}, "input_size is 0, but must be a positive multiple of 32"),
        ("alexnet", {"input_size": 14}, "input_size is 14, but must be at least 15"),
        (
            "alexnet",
            {"input_size": 32},
            r"features\.0\.weight is \(8, 3, 11, 11\), but alexnet has \(8, 3, 3, 3\) there",
        ),
    ],
)
def test_contradictions_are_refused(source: str, arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    """What is said otherwise than the weights say is refused, naming the file and both values."""
    path = saved(tmp_path, from_tutorial() if source == "tutorial" else from_torchvision(source))
    with pytest.raises(CheckpointError, match=rf"weights\.pth: .*{message}"):
        load_state_dict_file(path, **arguments)


def without(name: str) -> Any:
    return lambda state: {key: tensor for key, tensor in state.items() if key != name}


def having(name: str, tensor: Any) -> Any:
    return lambda state: state | {name: tensor}


@pytest.mark.parametrize(
    ("source", "change", "message"),
    [
        (
            "vgg11_bn",
            without("features.4.bias"),
            r"tensor features\.4\.bias is missing, but vgg11_bn has \(16,\) there",
        ),
        ("vgg11_bn", without("features.4.weight"), r"has features\.4 \(bias\), no whole convolution"),
        ("vgg11_bn", without("features.5.running_mean"), r"has features\.5 \(.*\), no whole"),
        ("vgg11_bn", without("features.5.running_var"), r"tensor features\.5\.running_var is missing, but vgg11_bn"),
        ("vgg11", having("features.99.bias", torch.zeros(3)), r"has features\.99 \(bias\), no whole"),
        ("vgg11", having("fc.weight", torch.zeros(3, 3)), "has fc, which torchvision's network has not"),
        (
            "vgg11",
            having("features.3.weight", torch.zeros(16, 8, 1, 1)),
            r"is \(16, 8, 1, 1\), but vgg11 has \(16, 8, 3, 3\)",
        ),
        (
            "vgg11",
            having("classifier.0.weight", torch.zeros(512, 9)),
            r"classifier\.0\.weight is \(512, 9\), but vgg11 has",
        ),
        (
            "vgg11",
            having("classifier.3.bias", torch.full((512,), torch.nan)),
            r"classifier\.3\.bias has values that are not",
        ),
        ("vgg11", having("classifier.3.bias", torch.full((512,), 1e300, dtype=torch.float64)), "not finite in float32"),
        ("vgg11", having("classifier.3.bias", torch.zeros(512).int()), r"holds classifier\.3\.bias, which is no dense"),
        ("vgg11", having("epoch", torch.tensor(3)), "holds epoch, which is no dense tensor of floats"),
        ("vgg11", having("features.9.weight", torch.zeros(3, 3, 3, 3)), "has 9 convolutions, but must have one of 5"),
        ("vgg11", lambda state: {k: t for k, t in state.items() if "class" not in k}, "has features without a classif"),
        ("vgg11", lambda state: {f"net{k}": t for k, t in state.items()}, r"its first keys are netfeatures\.0\.weight"),
        (
            "vgg11",
            lambda state: {k.replace("classifier.3", "classifier.2"): t for k, t in state.items()},
            "has no class",
        ),
        ("vgg11", lambda state: {}, "holds no state dict"),
        ("vgg11", lambda state: list(state.values()), "holds no state dict"),
        ("vgg11", having("features.0.weight", torch.zeros(8, 4, 3, 3)), "in_channels is 4, but must be 1"),
        ("tutorial", having("conv2.0.weight", torch.zeros(16, 8, 3, 3)), r"conv2\.0 and features\.1\.0 differ"),
        ("tutorial", without("features.1.0.bias"), r"conv2\.0 and features\.1\.0 differ"),
        (
            "tutorial",
            lambda state: {k: t for k, t in state.items() if "features.4" not in k},
            "has 26 layers under conv1, conv2, …, but 20 under features",
        ),
        ("tutorial", having("more.weight", torch.zeros(3, 3)), r"has 4 Linear \(.*, more\), but must have 3"),
        ("tutorial", without("classifier.2.weight"), r"has classifier\.2 \(bias\), no whole"),
        (
            "tutorial",
            lambda state: {k.replace("classifier.3", "classifier.4"): t for k, t in state.items()},
            r"has linear layers \[1, 2, 4\], so that something stands between",
        ),
    ],
)
def test_other_tensors_are_refused(source: str, change: Any, message: str, tmp_path: Path) -> None:
    """Missing, unexpected, misshapen and broken tensors are named."""
    network = from_tutorial() if source == "tutorial" else from_torchvision(source)
    path = saved(tmp_path, change(dict(network.state_dict())))
    with pytest.raises(CheckpointError, match=rf"weights\.pth: .*({message})"):
        load_state_dict_file(path, input_size=None if source == "tutorial" else 224)


def test_a_pickled_network_is_refused(tmp_path: Path) -> None:
    """A network that was saved whole is not unpickled; the error says what to save instead."""
    path = tmp_path / "whole.pth"
    torch.save(VGGNet(size=32), path)
    with pytest.raises(
        CheckpointError, match=r"holds a \S*VGGNet, not tensors alone; save model\.state_dict\(\) instead"
    ):
        load_state_dict_file(path)


@pytest.mark.parametrize("contents", [b"", b"hello world", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", b"\x80\x04K\x01."])
def test_what_is_no_state_dict_is_refused(contents: bytes, tmp_path: Path) -> None:
    """A file of any other kind is refused in one line."""
    path = tmp_path / "weights.pth"
    path.write_bytes(contents)
    with pytest.raises(CheckpointError, match=r"is not a whole file of torch\.save|holds no state dict") as caught:
        load_state_dict_file(path)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    """A copy that broke off is refused."""
    path = saved(tmp_path, from_torchvision("vgg11"))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=r"is not a whole file of torch\.save"):
        load_state_dict_file(path, input_size=32)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    """What cannot be opened is named with the system's reason."""
    with pytest.raises(CheckpointError, match="none: no such file or directory"):
        load_state_dict_file(tmp_path / "none")
    with pytest.raises(CheckpointError, match="is a directory"):
        load_state_dict_file(tmp_path)


def small(architecture: Architecture) -> nn.Module:
    return lively(build_network(architecture))


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        (Architecture("vgg11_bn", 3, 3, 64, "pooled", 1 / 16), {"input_size": 64}),
        (Architecture("vgg11_lrn", 3, 1, 64, "paper", 1 / 16), {"architecture": "vgg11_lrn"}),
        (Architecture("vgg16c_bn", 3, 3, 64, "linear", 1 / 16), {}),
        (Architecture("vgg19", 3, 3, 96, "paper", 1 / 16), {}),
        (Architecture("alexnet", 3, 3, 64, "paper", 1 / 16), {"input_size": 64}),
    ],
    ids=lambda value: value.name if isinstance(value, Architecture) else "",
)
@pytest.mark.parametrize("safetensors_file", [True, False])
def test_our_own_state_dicts_come_back(
    architecture: Architecture, expected: dict[str, Any], safetensors_file: bool, tmp_path: Path
) -> None:
    """A network of this project that was saved by torch.save or safetensors is the same again."""
    ours, path = small(architecture), tmp_path / "weights"
    if safetensors_file:
        safetensors.torch.save_file(ours.state_dict(), path)
    else:
        torch.save(ours.state_dict(), path)
    found = import_weights(path, Expected(**expected))
    assert found.architecture == architecture
    assert found.origin == f"{architecture.name} with this project's names"
    state = found.model.state_dict()
    assert all(torch.equal(state[name], t) for name, t in ours.state_dict().items() if "num_batches" not in name)


def as_timm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A torchvision VGG's state dict with timm's names and shapes."""
    names = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
    result = {}
    for key, tensor in state.items():
        layer, _, name = key.rpartition(".")
        side = {"classifier.0": 7, "classifier.3": 1}.get(layer) if name == "weight" else None
        result[f"{names.get(layer, layer)}.{name}"] = tensor.reshape(len(tensor), -1, side, side) if side else tensor
    return result


@pytest.mark.parametrize("size", [32, 224])
def test_timm_s_names_are_read(size: int, tmp_path: Path) -> None:
    """timm has convolutions in a VGG's head, and its files are safetensors."""
    theirs = from_torchvision("vgg11_bn")
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({k: t.contiguous() for k, t in as_timm(theirs.state_dict()).items()}, path)
    found = import_weights(tmp_path, Expected(input_size=size))
    assert found.origin == "vgg11_bn with timm's names"
    torch.testing.assert_close(logits(found.model, size), logits(theirs, size))


@pytest.mark.parametrize(
    ("architecture", "head"),
    [
        (Architecture("vgg11_bn", 5, 3, 32, "pooled"), "pooled"),
        (Architecture("vgg11", 5, 3, 96, "pooled"), "pooled"),
        (Architecture("vgg11_bn", 5, 1, 64, "linear"), "linear"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_our_export_for_timm_comes_back(architecture: Architecture, head: str, tmp_path: Path) -> None:
    """Its three layers for one become one of our heads again, with the same function."""
    ours = small(architecture)
    size, half = architecture.input_size, (0.5,) * architecture.in_channels
    preprocessing = Preprocessing(size, size, half, half, architecture.in_channels)
    metadata = CheckpointMetadata(
        architecture=architecture,
        labels=tuple("abcde"),
        preprocessing=preprocessing,
        golden=record_golden_sample(ours, preprocessing, random_image()),
    )
    write_checkpoint(tmp_path / "in.safetensors", metadata, ours)
    write_timm(read_checkpoint(tmp_path / "in.safetensors"), tmp_path / "timm")
    found = import_weights(tmp_path / "timm", Expected(input_size=architecture.input_size))
    assert found.architecture.head == head
    images = torch.randn(2, architecture.in_channels, architecture.input_size, architecture.input_size)
    with torch.inference_mode():
        torch.testing.assert_close(found.model(images), ours(images), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("key", ["classifier", "classifier.0", "fc"])
def test_a_head_of_one_layer_is_read(key: str, tmp_path: Path) -> None:
    """Networks for 32 x 32 pixels have one linear layer for the last map's one pixel."""
    ours = small(Architecture("vgg16_bn", 10, 3, 32, "pooled", 1 / SHRINK))
    linear = ours.get_submodule("head.2")
    theirs = from_torchvision("vgg16_bn").features.state_dict()
    state = {f"features.{name}": tensor for name, tensor in theirs.items()}
    head = {f"{key}.{name}": tensor for name, tensor in linear.state_dict().items()}
    found = import_weights(saved(tmp_path, state | head), Expected(input_size=32))
    assert (found.architecture.head, found.architecture.num_classes) == ("pooled", 10)
    with torch.inference_mode():
        images = torch.randn(2, 3, 32, 32)
        features = from_torchvision("vgg16_bn").features(images).flatten(1)
        torch.testing.assert_close(found.model(images), linear(features))


def test_older_numbers_of_the_head_are_read(tmp_path: Path) -> None:
    """Before torchvision 0.1.7, and in weights converted from Caffe, dropout came first in a VGG's head."""
    theirs = from_torchvision("vgg16")
    numbers = {"classifier.0": "classifier.1", "classifier.3": "classifier.4"}
    state = {name.replace(name[:12], numbers.get(name[:12], name[:12])): t for name, t in theirs.state_dict().items()}
    assert "classifier.4.weight" in state
    found = import_weights(saved(tmp_path, state), Expected(input_size=32))
    torch.testing.assert_close(logits(found.model, 32), logits(theirs, 32))


@pytest.mark.parametrize("prefix", ["features.", ""])
def test_features_alone_are_enough_for_a_start(prefix: str, tmp_path: Path) -> None:
    """A file without a classifier gives a network with an empty head, where that is asked for."""
    features = from_torchvision("vgg16").features.state_dict()
    path = saved(tmp_path, {prefix + name: tensor for name, tensor in features.items()})
    with pytest.raises(
        CheckpointError, match="has features without a classifier, which is enough for training's --init"
    ):
        import_weights(path, Expected(input_size=64))
    found = import_weights(path, Expected(input_size=64, needs_classifier=False))
    assert not found.has_classifier
    assert not any(name.startswith("head") for name in found.model.state_dict())


def test_what_was_taken_is_told(tmp_path: Path) -> None:
    """The words name the place of the network, the other networks and what stood beside it."""
    state = from_torchvision("vgg11").state_dict()
    lightning = {f"model.{name}": tensor for name, tensor in state.items()} | {"loss.weight": torch.ones(3)}
    path = saved(tmp_path, {"state_dict": lightning, "ema": state})
    assert import_weights(path, Expected(input_size=32)).origin == (
        "vgg11 with torchvision's names from ema (not from state_dict.model)"
    )
    assert import_weights(path, Expected(input_size=32, which="state_dict.model")).origin == (
        "vgg11 with torchvision's names from state_dict.model (not from ema) "
        "without 1 tensors beside it, such as loss.weight"
    )


def test_an_error_says_which_network_it_was(tmp_path: Path) -> None:
    """Averaged weights without BatchNorm's statistics cannot be used; the error names the other network."""
    state = from_torchvision("vgg11_bn").state_dict()
    path = saved(tmp_path, {"model": state, "ema": {name: t for name, t in state.items() if "running" not in name}})
    with pytest.raises(CheckpointError, match=r"no whole .*--which takes another: model\)"):
        import_weights(path, Expected(input_size=32))
    assert import_weights(path, Expected(input_size=32, which="model")).architecture.name == "vgg11_bn"
