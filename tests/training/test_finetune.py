"""Starting from a checkpoint's weights: what is taken, what is not, and what stays as it is."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from models.checkpoint import Checkpoint, read_checkpoint
from models.networks.registry import Architecture, build_network
from tests.fakes.checkpoints import LABELS, write_small_checkpoint
from training.errors import TrainingError
from training.finetune import freeze_features, load_weights, settings_of_checkpoint


@pytest.fixture
def start(tmp_path: Path) -> Checkpoint:
    write_small_checkpoint(tmp_path / "start.safetensors")
    return read_checkpoint(tmp_path / "start.safetensors")


def taken(model: nn.Module, start: Checkpoint) -> set[str]:
    state = model.state_dict()
    return {name for name in state if name in start.state and torch.equal(state[name], start.state[name])}


def test_the_same_labels_take_everything(start: Checkpoint) -> None:
    """A network for the same labels begins where the checkpoint ended."""
    model = build_network(start.metadata.architecture)
    load_weights(model, start, LABELS)
    assert taken(model, start) == set(start.state)


@pytest.mark.parametrize("labels", [("a", "b", "c", "d"), ("a", "b")])
def test_other_labels_get_a_new_last_layer(start: Checkpoint, labels: tuple[str, ...]) -> None:
    """Other labels, as many or not, keep the features and begin a last layer of their own."""
    model = build_network(replace(start.metadata.architecture, num_classes=len(labels)))
    load_weights(model, start, labels)
    assert set(start.state) - taken(model, start) == {"head.2.weight", "head.2.bias"} - taken(model, start)
    assert "head.2.weight" not in taken(model, start)


def test_features_that_do_not_fit_are_named(start: Checkpoint) -> None:
    """Another width or another network is refused, with the tensor and both shapes."""
    model = build_network(Architecture("vgg11_bn", 4, input_size=32, head="pooled", width=0.25))
    with pytest.raises(
        TrainingError, match=r"blocks\.0\.0\.weight is \(8, 3, 3, 3\), but the recipe's is \(16, 3, 3, 3\)"
    ):
        load_weights(model, start, LABELS)


def test_a_recipe_follows_the_checkpoint(start: Checkpoint) -> None:
    """Its settings build the very network, which sees images as before."""
    architecture = start.metadata.architecture
    assert settings_of_checkpoint(start) == {
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
