"""Networks for tests that compare two forms of one function."""

import torch
from torch import nn

from models.networks.vgg import initialise_weights


def lively(network: nn.Module) -> nn.Module:
    """Returns the network in evaluation mode; its random biases and statistics all change the logits."""
    torch.manual_seed(0)
    initialise_weights(network)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for name in ("weight", "bias", "running_mean", "running_var"):
                nn.init.uniform_(getattr(module, name), 0.5, 1.5)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.uniform_(module.get_parameter("bias"), -0.1, 0.1)
    return network.eval()
