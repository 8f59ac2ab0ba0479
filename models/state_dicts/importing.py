"""From a file of weights to one of our networks.

Owns recognising the architecture by the tensors' shapes, and the order of the steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from models.checkpoint import CheckpointError
from models.files import measure_memory_bytes
from models.networks.registry import BATCH_NORM_SUFFIX, Architecture, build_network
from models.state_dicts.layers import Layers, group_layers, load_layer, read_input_size, select_layers
from models.state_dicts.ours import is_ours, match_own_names, read_head
from models.state_dicts.reading import find_weights_file, read_tensors
from models.state_dicts.selection import StateDict, select_state_dict
from models.state_dicts.torchvision import (
    TIMM,
    describe_head,
    drop_foreign_head,
    fit_head,
    match_by_name,
    translate_head,
)
from models.state_dicts.tutorial import drop_copies, is_tutorial, match_by_order

NAME_BY_CONVOLUTIONS = {5: "alexnet", 8: "vgg11", 10: "vgg13", 13: "vgg16", 16: "vgg19"}
CHANNELS = 64  # of the first convolution, in all of them
Match = Callable[[nn.Module, Layers], dict[str, nn.Module]]
NO_CLASSES = 2  # stands for the number of classes where the file has no classifier


@dataclass(frozen=True, slots=True, eq=False)
class ImportedWeights:
    """`model` is in evaluation mode, in float32 on the CPU. Without a classifier in the file it has an empty head.

    `origin` says in words what was taken, from where in the file, and what was not.
    """

    architecture: Architecture
    model: nn.Module
    origin: str
    has_classifier: bool = True


@dataclass(frozen=True, slots=True)
class Expected:
    """What the caller says of the weights; None where the file has to tell it.

    `which` names the network in a file that holds several. `default_size` is the input size of weights that take any,
    where none is expected. Without `needs_classifier`, features alone are enough.
    """

    architecture: str | None = None
    in_channels: int | None = None
    input_size: int | None = None
    which: str | None = None
    needs_classifier: bool = True
    default_size: int | None = None


def import_weights(path: Path, expected: Expected = Expected()) -> ImportedWeights:
    """Our network with the weights in `path`: a file, or a folder as exports and the Hugging Face Hub have it.

    What the tensors determine is read from them, and an expectation that contradicts them is refused. The networks of
    torchvision and timm take any `input_size`, so there it must be given: a multiple of 32 pixels for a VGG, at least
    63 for AlexNet. Raises CheckpointError, naming the file and the fault.
    """
    others: tuple[str, ...] = ()
    try:
        file = find_weights_file(path)
        state, others = select_state_dict(read_tensors(file), expected.which)
        return _import(state, group_layers(state.tensors, file), expected, others)
    except ValueError as error:
        hint = f" (of several networks in the file; --which takes another: {', '.join(others)})" if others else ""
        raise CheckpointError(path, f"{error}{hint}") from error


def _import(state: StateDict, layers: Layers, expected: Expected, others: tuple[str, ...]) -> ImportedWeights:
    match: Match
    if is_tutorial(layers):
        names, match, layers = "the tutorial's names", match_by_order, drop_copies(layers)
        found = _recognise(layers, "linear", read_input_size(layers, "linear"), expected)
    elif is_ours(layers):
        names, match, head = "this project's names", match_own_names, read_head(layers)
        found = _recognise(layers, head, read_input_size(layers, head), expected)
    else:
        names = "timm's names" if any(name in layers for name in TIMM) else "torchvision's names"
        kept = layers if expected.needs_classifier else drop_foreign_head(layers)
        names += f" without its own head ({', '.join(layers.keys() - kept.keys())})" if len(kept) < len(layers) else ""
        match, layers = match_by_name, translate_head(kept)
        found = _recognise(layers, *describe_head(layers, expected.input_size or expected.default_size), expected)
    with torch.device("meta"):  # no memory is touched or initialised for weights that are replaced
        model = build_network(found)
    need_bytes, have_bytes = sum(tensor.nbytes for tensor in model.state_dict().values()), measure_memory_bytes()
    if need_bytes > have_bytes:
        raise ValueError(f"needs {need_bytes} bytes for {found}, but this machine has {have_bytes} of memory")
    layers = fit_head(layers, found) if match is match_by_name else layers
    has_classifier = bool(select_layers(layers, nn.Linear))
    if not has_classifier:
        if expected.needs_classifier:
            raise ValueError("has features without a classifier, which is enough for training's --init alone")
        model.head = nn.Sequential()
    for name, module in match(model, layers).items():
        load_layer(module, name, layers[name], found.name)
    origin = [f"{found.name} with {names}", *([f"from {state.name}"] if state.name else [])]
    origin += [f"(not from {', '.join(others)})"] if others else []
    origin += [f"without {len(state.others)} tensors beside it, such as {state.others[0]}"] if state.others else []
    return ImportedWeights(found, model.eval(), " ".join(origin), has_classifier)


def _recognise(layers: Layers, head: str | None, own_size: int | None, expected: Expected) -> Architecture:
    """The architecture that the shapes tell. Raises ValueError where that is none, or not what is expected."""
    convolutions = [layers[name]["weight"] for name in select_layers(layers, nn.Conv2d)]
    linears = [layers[name]["weight"] for name in select_layers(layers, nn.Linear)]
    name = NAME_BY_CONVOLUTIONS.get(len(convolutions))
    if name is None:
        known = ", ".join(f"{count} ({name})" for count, name in NAME_BY_CONVOLUTIONS.items())
        raise ValueError(f"has {len(convolutions)} convolutions, but must have one of {known}")
    if name == "vgg16" and convolutions[-1].shape[-1] == 1:
        name = "vgg16c"
    if expected.architecture == "vgg11_lrn" and name == "vgg11":  # response normalisation has no weights
        name = "vgg11_lrn"
    name += BATCH_NORM_SUFFIX if select_layers(layers, nn.BatchNorm2d) else ""
    input_size = next(
        (size for size in (own_size, expected.input_size, expected.default_size) if size is not None), None
    )
    if input_size is None:
        raise ValueError("does not tell its input size, as torchvision's networks take any; give it (--input-size)")
    found = Architecture(
        name=name,
        num_classes=len(linears[-1]) if linears else NO_CLASSES,
        in_channels=convolutions[0].shape[1],
        input_size=input_size,
        head="paper" if name == "alexnet" else head or "pooled",
        width=len(convolutions[0]) / CHANNELS,
    )
    for field, given, read in (
        ("architecture", expected.architecture, found.name),
        ("in_channels", expected.in_channels, found.in_channels),
        ("input_size", expected.input_size, found.input_size),
    ):
        if given not in (None, read):
            raise ValueError(f"{field} is given as {given}, but the weights are for {read}")
    return found
