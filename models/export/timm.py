"""timm: a folder that `timm.create_model("local-dir:FOLDER", pretrained=True)` loads into timm's own VGG.

Owns mapping our tensors to timm's names, and its config.json. timm's head pools the last map to 7 x 7 if it is smaller,
applies two convolutions with a ReLU after each, and then one linear layer.
"""

import json
import math
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.checkpoint import Checkpoint, restore_model
from models.export.parity import RunExport
from models.inference.fuse import fuse
from models.networks.registry import BATCH_NORM_SUFFIX, Architecture
from models.networks.vgg import HIDDEN, STRIDE, VGG
from models.normalise import normalise
from models.preprocess import Pixels, Preprocessing

NAMES = ("vgg11", "vgg13", "vgg16", "vgg19")  # each also with _bn
CROP_MODES = {"center": "center", "squash": "squash", "pad": "border"}
GRID = 7  # the side of the map that the first layer of timm's head takes


def write_timm(found: Checkpoint, folder: Path) -> RunExport:
    """Writes the folder, and returns a function that runs timm's network on a batch.

    Raises ValueError with the reason if timm has no network that computes the same.
    """
    if reason := _find_obstacle(found.metadata.architecture):
        raise ValueError(f"{found.path}: {reason}")
    import timm  # here because it is installed only for exports

    model = restore_model(found)
    assert isinstance(model, VGG)
    state = _map_convolutions(model) | _map_head(model, found.metadata.architecture)
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(safetensors.torch.save(state, {"format": "pt"}))
    config = _config(found, hidden=len(state["pre_logits.fc1.bias"]))
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()

    def answer(batch: Pixels) -> dict[str, Any]:
        logits = theirs(normalise(torch.from_numpy(batch), found.metadata.preprocessing))
        return {"logits": logits.numpy()}

    return answer


def read_timm_config(folder: Path) -> tuple[Preprocessing, tuple[str, ...] | None, float] | None:
    """Preprocessing, labels (None where it has none) and temperature that the folder's config.json tells.

    None where there is no such file, or it is not timm's. Raises OSError, or ValueError that names the file.
    """
    path = folder / "config.json"
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text("utf-8"))
        if not isinstance(document, dict) or "pretrained_cfg" not in document:
            return None
        told, labels = document["pretrained_cfg"], document.get("label_names")
        channels, size, _ = told["input_size"]
        preprocessing = Preprocessing(
            size=size,
            resize=math.floor(size / told["crop_pct"]),
            mean=tuple(told["mean"]),
            std=tuple(told["std"]),
            channels=channels,
            interpolation=told["interpolation"],
        )
        return preprocessing, labels and tuple(labels), float(document.get("temperature", 1))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{path}: is not a whole config of timm ({error})") from error


def _find_obstacle(a: Architecture) -> str | None:
    """Why timm has no network that computes this one."""
    if a.name.removesuffix(BATCH_NORM_SUFFIX) not in NAMES:
        return f"architecture is {a.name}, but timm's VGGs are {', '.join(NAMES)}, each also with {BATCH_NORM_SUFFIX}"
    if a.width != 1:
        return f"width is {a.width:g}, but must be 1 for timm"
    if a.input_size > GRID * STRIDE:
        return f"input_size is {a.input_size}, but must be at most {GRID * STRIDE} for timm, whose head differs above"
    if a.head != "paper" and 2 * a.num_classes > HIDDEN:
        return f"head is {a.head} with {a.num_classes} classes, but must have at most {HIDDEN // 2} for timm"
    return None


def _map_convolutions(model: VGG) -> dict[str, Tensor]:
    """timm numbers the layers as torchvision does, and counts the max pool after each block."""
    layers = [layer for block in model.blocks for layer in (*block.children(), nn.MaxPool2d(2))]
    return {
        f"features.{i}.{name}": tensor for i, layer in enumerate(layers) for name, tensor in layer.state_dict().items()
    }


def _map_head(model: VGG, a: Architecture) -> dict[str, Tensor]:
    if a.head == "paper":
        first, second, last = (layer for layer in model.head if isinstance(layer, nn.Linear))
        weights: list[Tensor] = [first.weight, second.weight, last.weight]
        biases: list[Tensor] = [first.bias, second.bias, last.bias]
    else:
        weights, biases = _linear_through_relu(*_fuse_head(model, a), hidden=HIDDEN)
    grid = a.input_size // STRIDE
    weights = [
        _undo_pool(weights[0].reshape(len(weights[0]), -1, grid, grid)),
        weights[1][:, :, None, None],
        weights[2],
    ]
    layers = ("pre_logits.fc1", "pre_logits.fc2", "head.fc")
    state = {f"{layer}.weight": weight for layer, weight in zip(layers, weights, strict=True)}
    state |= {f"{layer}.bias": bias for layer, bias in zip(layers, biases, strict=True)}
    return {name: tensor.detach().contiguous() for name, tensor in state.items()}


def _fuse_head(model: VGG, a: Architecture) -> tuple[Tensor, Tensor]:
    """The heads `linear` and `pooled` as one (K, C * grid * grid) weight and its (K,) bias."""
    linear = list(fuse(nn.ModuleList([model.head])).modules())[-1]
    assert isinstance(linear, nn.Linear)
    cells = (a.input_size // STRIDE) ** 2
    weight = linear.weight if a.head == "linear" else linear.weight.repeat_interleave(cells, dim=1) / cells
    return weight, linear.bias


def _linear_through_relu(weight: Tensor, bias: Tensor, hidden: int) -> tuple[list[Tensor], list[Tensor]]:
    """Three layers with ReLU between that compute one: y = relu(y) - relu(-y), exact in floats as well."""
    classes = len(weight)
    identity = torch.eye(hidden)
    weights = [
        torch.cat([weight, -weight]),
        identity[:, : 2 * classes],
        identity[:classes] - identity[classes : 2 * classes],
    ]
    return weights, [torch.cat([bias, -bias]), torch.zeros(hidden), torch.zeros(classes)]


def _undo_pool(weight: Tensor) -> Tensor:
    """(O, C, grid, grid) weights of a map -> (O, C, 7, 7) of the same map pooled to 7 x 7.

    If the pool gives more cells than the map has, no information is lost, and the pool can be undone exactly.
    """
    pool = F.adaptive_avg_pool1d(torch.eye(weight.shape[-1]), GRID)  # (grid, 7), along either axis
    undo = torch.linalg.pinv(pool.double()).to(weight.dtype)  # (7, grid)
    return torch.einsum("ocij,pi,qj->ocpq", weight, undo, undo)


def _config(found: Checkpoint, hidden: int) -> dict[str, Any]:
    """What timm reads. It does not use `color`, `temperature` and `version`; `read_timm_config` and people do."""
    d, p = found.metadata, found.metadata.preprocessing
    return {
        "architecture": d.architecture.name,
        "num_classes": d.architecture.num_classes,
        "model_args": {"mlp_ratio": hidden / HIDDEN},
        "label_names": d.labels,
        "pretrained_cfg": {
            "input_size": (p.channels, p.size, p.size),
            "interpolation": p.interpolation,
            "crop_pct": _crop_share(p),
            "crop_mode": CROP_MODES[p.crop],
            "mean": p.mean,
            "std": p.std,
            "num_classes": d.architecture.num_classes,
            "pool_size": (GRID, GRID),
            "first_conv": "features.0",
            "classifier": "head.fc",
        },
        "color": p.color,
        "temperature": d.temperature,
        "version": found.version,
    }


def _crop_share(p: Preprocessing) -> float:
    """The share for which timm's floor(size / share) is our `resize`, and not one less.

    It is 1 for a crop that shows the whole image.
    """
    if p.crop != "center":
        return 1.0
    share = p.size / p.resize
    return share if math.floor(p.size / share) == p.resize else math.nextafter(share, 0)
