"""Writes an untrained checkpoint for measurements of speed, which does not depend on the values of the weights.

`python -m benchmarks.untrained OUT --architecture vgg16_bn --size 224 --head linear` initialises the weights. The batch
norms get the statistics of one batch of noise and random gains and shifts, so that fusing has an effect.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from models.checkpoint import write_checkpoint
from models.golden import record_golden_sample
from models.metadata import CheckpointMetadata
from models.networks.registry import Architecture, build_network
from models.networks.vgg import HEADS
from models.preprocess import Preprocessing

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def make_untrained(architecture: Architecture) -> nn.Module:
    """The network, with the same weights at every call."""
    torch.manual_seed(0)
    network = build_network(architecture)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.75, 1.25)
            nn.init.uniform_(module.bias, -0.25, 0.25)
            module.momentum = None  # the statistics are then the batch's own
    with torch.no_grad():
        network.train()(torch.randn(4, architecture.in_channels, architecture.input_size, architecture.input_size))
    return network.eval()


def main() -> None:
    """Writes the file and prints its version."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the .safetensors file to write")
    parser.add_argument("--architecture", default="vgg16_bn", help="(default: vgg16_bn)")
    parser.add_argument("--size", type=int, default=224, help="pixels a side (default: 224)")
    parser.add_argument("--head", default="paper", choices=HEADS, help="(default: paper)")
    parser.add_argument("--classes", type=int, default=10, help="(default: 10)")
    arguments = parser.parse_args()
    size, classes = arguments.size, arguments.classes
    architecture = Architecture(arguments.architecture, classes, input_size=size, head=arguments.head)
    preprocessing = Preprocessing(size, size, IMAGENET_MEAN, IMAGENET_STD)
    network = make_untrained(architecture)
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    metadata = CheckpointMetadata(
        architecture=architecture,
        labels=tuple(f"class {i}" for i in range(classes)),
        preprocessing=preprocessing,
        golden=record_golden_sample(network, preprocessing, Image.fromarray(noise)),
    )
    print(arguments.out, write_checkpoint(arguments.out, metadata, network))


if __name__ == "__main__":
    main()
