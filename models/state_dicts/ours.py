"""The names that this project's own networks have, as in `torch.save(model.state_dict())`."""

from torch import nn

from models.state_dicts.layers import Layers, select_layers

HEADS = {1: "pooled", 3: "linear"}  # by the number of linear layers; `paper` counts ReLU and dropout between its three
PAPER_NUMBERS = ["head.1", "head.4", "head.7"]


def is_ours(layers: Layers) -> bool:
    """Whether the names are those of a VGG or AlexNet of this project."""
    return any(name.startswith(("blocks.", "body.")) for name in layers)


def read_head(layers: Layers) -> str | None:
    """The head's name, or None where there is no head. Raises ValueError for one that is none of ours."""
    linears = select_layers(layers, nn.Linear)
    if not linears:
        return None
    if linears == PAPER_NUMBERS or "body.0" in layers:
        return "paper"
    if len(linears) not in HEADS:
        raise ValueError(f"has the linear layers {', '.join(linears)}, which none of this project's heads has")
    return HEADS[len(linears)]


def match_own_names(model: nn.Module, layers: Layers) -> dict[str, nn.Module]:
    """The module for each layer, by its name. Raises ValueError for a missing or an unexpected one."""
    modules = {name: module for name, module in model.named_modules() if name and not [*module.children()]}
    places = {name: module for name, module in modules.items() if module.state_dict()}
    if missing := [name for name in places if name not in layers]:
        raise ValueError(f"has no {missing[0]}, which this project's network has")
    if unexpected := [name for name in layers if name not in places]:
        raise ValueError(f"has {unexpected[0]}, which this project's network has not")
    return places
