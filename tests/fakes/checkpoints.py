"""A small checkpoint with random weights."""

from pathlib import Path

import torch

from models.checkpoint import write_checkpoint
from models.golden import record_golden_sample
from models.metadata import CheckpointMetadata
from models.networks.registry import Architecture, build_network
from models.preprocess import Preprocessing
from models.probabilities import Calibration
from tests.fakes.images import random_image

PREPROCESSING = Preprocessing(size=32, resize=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
LABELS = ("cat", "dog", "eel", "fox")


def write_small_checkpoint(
    path: Path,
    seed: int = 0,
    labels: tuple[str, ...] = LABELS,
    temperature: float = 1.0,
    calibration: Calibration | None = None,
    architecture: Architecture | None = None,
    preprocessing: Preprocessing | None = None,
) -> str:
    """Writes a small network with random weights, by default a vgg11_bn, and returns its version."""
    torch.manual_seed(seed)
    architecture = architecture or Architecture("vgg11_bn", len(labels), input_size=32, head="pooled", width=1 / 8)
    model = build_network(architecture).eval()
    preprocessing = preprocessing or PREPROCESSING
    golden = record_golden_sample(model, preprocessing, random_image())
    metadata = CheckpointMetadata(
        architecture=architecture,
        labels=labels,
        preprocessing=preprocessing,
        golden=golden,
        temperature=temperature,
        calibration=calibration,
        seed=seed,
    )
    return write_checkpoint(path, metadata, model)
