"""Starting from a checkpoint's weights: what is taken, what is not, and what stays as it is."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import nn

from models.networks.registry import Architecture, build_network
from models.presets import PRESETS
from tests.fakes.checkpoints import LABELS, write_small_checkpoint
from training.errors import TrainingError
from training.finetune import (
    InitialWeights,
    describe_weights,
    freeze_features,
    load_weights,
    read_initial_weights,
    read_recipe_and_start,
    settings_of_weights,
)
from training.recipe import STORED, recipe_fields


@pytest.fixture
def start(tmp_path: Path) -> InitialWeights:
    write_small_checkpoint(tmp_path / "start.safetensors")
    return read_initial_weights(tmp_path / "start.safetensors", {})


def taken(model: nn.Module, start: InitialWeights) -> set[str]:
    state = model.state_dict()
    return {name for name in state if name in start.state and torch.equal(state[name], start.state[name])}


def test_the_same_labels_take_everything(start: InitialWeights) -> None:
    """A network for the same labels begins where the checkpoint ended."""
    model = build_network(start.architecture)
    load_weights(model, start, LABELS)
    assert taken(model, start) == set(start.state)


@pytest.mark.parametrize("labels", [("a", "b", "c", "d"), ("a", "b")])
def test_other_labels_get_a_new_last_layer(start: InitialWeights, labels: tuple[str, ...]) -> None:
    """Other labels, as many or not, keep the features and begin a last layer of their own."""
    model = build_network(replace(start.architecture, num_classes=len(labels)))
    load_weights(model, start, labels)
    assert set(start.state) - taken(model, start) == {"head.2.weight", "head.2.bias"} - taken(model, start)
    assert "head.2.weight" not in taken(model, start)


def test_features_that_do_not_fit_are_named(start: InitialWeights) -> None:
    """Another width or another network is refused, with the tensor and both shapes."""
    model = build_network(Architecture("vgg11_bn", 4, input_size=32, head="pooled", width=0.25))
    with pytest.raises(
        TrainingError, match=r"blocks\.0\.0\.weight is \(8, 3, 3, 3\), but the recipe's is \(16, 3, 3, 3\)"
    ):
        load_weights(model, start, LABELS)


def test_a_recipe_follows_the_checkpoint(start: InitialWeights) -> None:
    """Its settings build the very network, which sees images as before."""
    architecture = start.architecture
    assert settings_of_weights(start) == {
        "crop": "center",
        "architecture": "vgg11_bn",
        "head": "pooled",
        "width": architecture.width,
        "channels": 3,
        "size": 32,
    }


def test_frozen_features_stay() -> None:
    """Neither weights nor BatchNorm's statistics of the features move; the head does."""
    model = build_network(Architecture("vgg11_bn", 4, input_size=32, head="pooled", width=1 / 8))
    freeze_features(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD([weights for weights in model.parameters() if weights.requires_grad], lr=1.0)
    model(torch.randn(4, 3, 32, 32)).sum().backward()
    optimizer.step()
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(before[name], tensor)}
    assert moved
    assert all(name.startswith("head.") for name in moved)


TORCHVISION_NUMBERS = {"features": (0, 1, 4, 5, 8, 9, 11, 12, 15, 16, 18, 19, 22, 23, 25, 26), "classifier": (0, 3, 6)}


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A vgg11_bn for ten classes, an eighth of its width, with torchvision's names, as published weights have them."""
    torch.manual_seed(0)
    network = build_network(Architecture("vgg11_bn", 10, width=1 / 8))
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.Linear)]
    names = [f"{part}.{i}" for part, numbers in TORCHVISION_NUMBERS.items() for i in numbers]
    state = {
        f"{name}.{key}": t for name, layer in zip(names, layers, strict=True) for key, t in layer.state_dict().items()
    }
    torch.save({"state_dict": state}, tmp_path / "vgg11_bn.pth")
    return tmp_path / "vgg11_bn.pth"


IMAGENET = {"init_preprocessing": "imagenet"}


def test_published_weights_bring_their_preprocessing(published: Path) -> None:
    """The architecture is read from the shapes; size, resize, mean and std are those of the weights' own training."""
    given = {"init": str(published), **IMAGENET}
    recipe, start = read_recipe_and_start("digits", given, "fast")
    assert start
    assert (recipe.architecture, recipe.head, recipe.width, recipe.size) == ("vgg11_bn", "paper", 1 / 8, 224)
    assert recipe.lr == 0.01
    p = start.preprocessing
    assert (p.size, p.resize, p.mean, p.std) == (224, 256, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert len(start.version) == 12


def test_another_size_keeps_the_share_of_the_crop(published: Path) -> None:
    """At 64 pixels the shorter side becomes 73, which is to 64 as 256 is to 224; the head is for the smaller map."""
    recipe, start = read_recipe_and_start("digits", {"init": str(published), "size": 64, **IMAGENET}, "fast")
    assert start
    assert (recipe.size, start.preprocessing.resize) == (64, 73)
    assert start.state["head.1.weight"].shape == (512, 64 * 4)


def test_what_is_taken_and_what_is_new_is_told(published: Path, start: InitialWeights) -> None:
    """Of published weights all but the last layer are taken; of a checkpoint with the same labels everything is."""
    recipe, found = read_recipe_and_start("digits", {"init": str(published), "size": 32, **IMAGENET}, "fast")
    assert found
    network, labels = recipe.network(3), ("a", "b", "c")
    assert describe_weights(found, network, labels) == (
        f"starts from {published}: vgg11_bn with torchvision's names from state_dict; takes 18 of 19 layers; "
        "new: head.7 (for 3 labels, where the file has unnamed labels)"
    )
    model = build_network(network)
    load_weights(model, found, labels)
    state = model.state_dict()
    assert {name for name in state if name not in taken(model, found)} == {"head.7.weight", "head.7.bias"}
    assert describe_weights(start, start.architecture, LABELS).endswith("; takes 17 of 17 layers")
    other = replace(start.architecture, num_classes=2)
    assert describe_weights(start, other, ("x", "y")).endswith(
        "new: head.2 (for 2 labels, where the file has other labels)"
    )


def test_as_many_classes_without_names_are_not_taken_for_the_same(published: Path) -> None:
    """Weights for ten classes of other things would be wrong for ten labels, however well they fit."""
    recipe, found = read_recipe_and_start("digits", {"init": str(published), "size": 32, **IMAGENET}, "fast")
    assert found
    model = build_network(recipe.network(10))
    load_weights(model, found, tuple("0123456789"))
    assert not {"head.7.weight", "head.7.bias"} & (taken(model, found) - {"head.7.bias"})


def test_features_alone_get_a_new_head(published: Path) -> None:
    """A file without a classifier starts a network with a mean and one linear layer behind the features."""
    state = torch.load(published)["state_dict"]
    torch.save({name: t for name, t in state.items() if name.startswith("features")}, published)
    recipe, found = read_recipe_and_start("digits", {"init": str(published), "size": 32, **IMAGENET}, "fast")
    assert found
    assert recipe.head == "pooled"
    assert describe_weights(found, recipe.network(4), LABELS).endswith(
        "takes 16 of 17 layers; new: head.2 (for 4 labels, where the file has no labels)"
    )


def test_a_head_of_another_kind_is_left_out(published: Path) -> None:
    """A network that was fine-tuned with a head of its own still gives its features; the line names what is left."""
    state = torch.load(published)["state_dict"]
    own = {name.replace("classifier.6", "classifier.6.0"): tensor for name, tensor in state.items()}
    torch.save(own | {"classifier.6.3.weight": torch.zeros(2, 10)}, published)
    recipe, found = read_recipe_and_start("digits", {"init": str(published), "size": 32, **IMAGENET}, "fast")
    assert found
    assert recipe.head == "pooled"
    assert found.origin.startswith("vgg11_bn with torchvision's names without its own head (")
    assert "classifier.6.3" in found.origin


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"init_preprocessing is 'stored', but .*vgg11_bn\.pth does not tell .* it must be one of imagenet"),
        (
            {**IMAGENET, "architecture": "vgg16_bn"},
            "architecture is given as vgg16_bn, but the weights are for vgg11",
        ),
        ({**IMAGENET, "init_which": "ema"}, "which is 'ema', but must be one of 'state_dict'"),
        ({**IMAGENET, "size": 64, "channels": 1}, r"channels is 1, but .*vgg11_bn\.pth is for 3"),
        ({**IMAGENET, "init": "none.pth"}, r"none\.pth: no such file or directory"),
        ({**IMAGENET, "init": "."}, r"\.: is a directory without model\.safetensors or pytorch_model\.bin"),
    ],
)
def test_what_does_not_fit_is_said(given: dict[str, Any], message: str, published: Path) -> None:
    """One line names the setting or the file and the fault."""
    with pytest.raises(ValueError, match=message):
        read_recipe_and_start("digits", {"init": str(published), **given}, "fast")


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    """Reading one would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe: is not a regular file"):
        read_recipe_and_start("digits", {"init": str(tmp_path / "pipe"), **IMAGENET}, "fast")


@pytest.mark.parametrize("given", [IMAGENET, {"init_which": "ema"}])
def test_a_checkpoint_tells_its_own(given: dict[str, Any], start: InitialWeights) -> None:
    """Settings for published weights contradict a checkpoint."""
    with pytest.raises(ValueError, match=r"init_\w+ is '\w+', but .* is a checkpoint, which tells its own"):
        read_recipe_and_start("digits", {"init": str(start.path), **given}, "fast")


def test_the_presets_are_those_of_conversion() -> None:
    """The recipe's allowed values are the names that models.convert takes."""
    assert get_args(recipe_fields()["init_preprocessing"].annotation) == (STORED, *PRESETS)
