"""From uint8 pixels to the network's input."""

import numpy as np
import pytest
import torch
from torchvision import transforms

from models.normalise import normalise
from models.preprocess import Preprocessing


@pytest.mark.parametrize("channels", [1, 3])
def test_normalisation_is_torchvision_s(channels: int) -> None:
    """(N, S, S, C) bytes become (N, C, S, S) floats, as ToTensor and Normalize make them, channels last in memory."""
    mean, std = (0.485, 0.456, 0.406)[:channels], (0.229, 0.224, 0.225)[:channels]
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, channels), np.uint8)
    ours = normalise(torch.from_numpy(images), Preprocessing(8, 8, mean, std, channels))
    theirs = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])
    assert ours.dtype == torch.float32
    assert torch.equal(ours, torch.stack([theirs(image) for image in images]))
    assert ours.permute(0, 2, 3, 1).is_contiguous()
