"""Which network of a file is taken, in whatever a training script saved around it."""

from typing import Any

import pytest
import torch
from torch import Tensor

from models.state_dicts.selection import select_state_dict

WEIGHT, OTHER = torch.ones(1), torch.zeros(1)
STATE = {"features.0.weight": WEIGHT, "features.0.bias": WEIGHT, "classifier.6.weight": WEIGHT}
LAST = {"features.0.weight": OTHER, "features.0.bias": OTHER, "classifier.6.weight": OTHER}


def under(prefix: str, state: dict[str, Tensor] = STATE) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("loaded", "name"),
    [
        (STATE, ""),
        (
            {"state_dict": STATE, "epoch": 3, "optimizer": {"state": {0: {"exp_avg": OTHER}}, "param_groups": []}},
            "state_dict",
        ),
        ({"model_state_dict": STATE, "loss": 0.5}, "model_state_dict"),
        ({"net": STATE, "acc": 93.1}, "net"),
        ({"model": STATE, "scheduler": {"last_epoch": 3}}, "model"),
        ({"a": {"b": [{"c": STATE}]}}, "a.b.0.c"),
        ({"state_dict": under("model."), "pytorch-lightning_version": "2.0"}, "state_dict.model"),
        ({"state_dict": under("model._orig_mod.")}, "state_dict.model"),
        (under("module."), ""),
        (under("module._orig_mod.module."), ""),
        ({"n_averaged": torch.tensor(7)} | under("module."), ""),
        (under("backbone.net."), "backbone.net"),
        ({name.replace("features.", "features.module."): tensor for name, tensor in STATE.items()}, ""),
        ({"cnn." + name.replace("features.", "features.module."): t for name, t in STATE.items()}, "cnn"),
        ({"state_dict": LAST, "state_dict_ema": STATE}, "state_dict_ema"),
        ({"model": LAST, "ema": STATE}, "ema"),
        ({"model": LAST, "model_ema": under("module.")}, "model_ema"),
        (LAST | under("ema_model."), "ema_model"),
        ({"state_dict": STATE, "best_state_dict": LAST}, "state_dict"),
        ({"model": STATE, "teacher": LAST}, "model"),
        (STATE | {"features.3.num_batches_tracked": torch.tensor(5)}, ""),
    ],
)
def test_the_network_is_found(loaded: Any, name: str) -> None:
    """Nested dicts, wrappers' prefixes and counters hide nothing; averaged weights come before the last ones."""
    found, others = select_state_dict(loaded)
    assert found.name == name
    assert found.tensors.keys() == STATE.keys()
    assert all(tensor is WEIGHT for tensor in found.tensors.values())
    assert name not in others


@pytest.mark.parametrize(
    ("loaded", "which"),
    [
        ({"state_dict_ema": LAST, "state_dict": STATE}, "state_dict"),
        ({"ema": {"module": LAST}, "model": STATE}, "model"),
        ({"ema": {"module": under("x.")}, "model": LAST}, "ema"),
        ([STATE, LAST], "0"),
        ({"generator": LAST, "classifier": STATE}, "classifier"),
    ],
)
def test_which_chooses(loaded: Any, which: str) -> None:
    """Any network can be chosen by its name or by a key that leads to it."""
    found, others = select_state_dict(loaded, which)
    assert all(tensor is WEIGHT for tensor in found.tensors.values())
    assert len(others) == len(loaded) - 1


def test_tensors_beside_the_network_are_named() -> None:
    """What a training script kept beside the network under its prefix is left out, and can be told."""
    found, _ = select_state_dict(under("model.") | {"criterion.weight": OTHER})
    assert found.others == ("criterion.weight",)
    assert found.tensors.keys() == STATE.keys()


@pytest.mark.parametrize(
    ("loaded", "message"),
    [
        ({}, r"holds no state dict: there is no tensor under its keys \(none\)"),
        ({"a": 1, "b": {"c": 2}}, r"holds no state dict: there is no tensor under its keys \(a, b\)"),
        ([1], "holds no state dict: there is no tensor|holds no state dict, but a list"),
        ({"state": {0: {"exp_avg": OTHER}}, "param_groups": []}, "it seems to be the state of an optimiser"),
        ({"layer1.0.conv1.weight": OTHER}, r"first keys are layer1\.0\.conv1\.weight; it seems to be a ResNet"),
        ({"conv1.0.weight": OTHER, "layer1.0.bn1.bias": OTHER}, "it seems to be a ResNet"),
        ({"features.denseblock1.x": OTHER}, "it seems to be a DenseNet"),
        ({"blocks.0.attn.qkv.weight": OTHER}, "it seems to be a vision transformer"),
        ({"net.slice1.0.weight": OTHER}, "it seems to be a VGG that was cut into slices"),
        ({"conv1_1.weight": OTHER}, "it seems to be a VGG with Caffe's names"),
        ({"features.0.0.weight": OTHER, "features.1.conv.0.weight": OTHER}, "a network of separable convolutions"),
        ({"weight": OTHER}, "its first keys are weight; read are VGG and AlexNet with the names of torchvision"),
        ({"a": STATE, "b": LAST}, r"holds several networks, 'a', 'b'; choose one of them \(--which\)"),
        (STATE | under("module."), r"holds features\.0\.weight twice, with and without a wrapper's prefix"),
    ],
)
def test_what_is_no_network_is_described(loaded: Any, message: str) -> None:
    """The error says what the file seems to hold, by its first keys."""
    with pytest.raises(ValueError, match=message):
        select_state_dict(loaded)


def test_an_unknown_choice_is_refused() -> None:
    """The networks that there are are named."""
    with pytest.raises(ValueError, match="which is 'best', but must be one of 'state_dict', 'ema'"):
        select_state_dict({"state_dict": STATE, "ema": STATE}, "best")


def test_a_file_that_contains_itself_ends() -> None:
    """Nesting is followed to a bounded depth."""
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    with pytest.raises(ValueError, match="holds no state dict"):
        select_state_dict(loop)
