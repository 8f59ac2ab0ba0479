"""Whether another runtime gives the same logits and probabilities as our network, on the same images.

Owns the images, the bounds and the comparison.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.checkpoint import Checkpoint, restore_model
from models.golden import golden_pixels, largest_probability_change
from models.metadata import CheckpointMetadata
from models.normalise import normalise
from models.preprocess import Pixels
from models.probabilities import softmax

RunExport = Callable[[Pixels], dict[str, NDArray[np.float32]]]
"""(N, S, S, C) uint8 pixels -> (N, K) `logits`, and `probabilities` where the runtime gives them."""

# How far logits may be from ours, as a share of the largest one. Both are float32 and are summed in different orders.
# Over all architectures and targets the difference was 2.5e-6 at most.
LOGITS_BOUND = 1e-4
PROBABILITIES_BOUND = 1e-3  # as the service allows for float32; a small temperature enlarges what logits differ by
RANDOM_IMAGES, BLOCKS = 3, 8


@torch.inference_mode()
def find_differences(found: Checkpoint, answer: RunExport) -> list[str]:
    """Runs our network and `answer` on the sample images. Returns the largest difference of each output, in words.

    Raises ValueError if one is above its bound or not a number, or if our network does not even give
    the logits that the checkpoint recorded for its golden sample.
    """
    metadata, result = found.metadata, []
    batch = sample_images(metadata)
    logits: Tensor = restore_model(found)(normalise(torch.from_numpy(batch), metadata.preprocessing))
    moved = largest_probability_change(metadata.golden, logits[0], metadata.temperature)
    if not moved <= PROBABILITIES_BOUND:
        raise ValueError(f"{found.path}: gives probabilities that are {moved:.1e} off on its own golden sample")
    ours = {
        "logits": (logits, LOGITS_BOUND * float(logits.abs().max())),
        "probabilities": (softmax(logits, metadata.temperature), PROBABILITIES_BOUND),
    }
    for name, values in answer(batch).items():
        expected, bound = ours[name]
        difference = float((torch.from_numpy(values) - expected).abs().max())
        result.append(f"{name} differ by {difference:.1e} at most ({bound:.1e} is allowed)")
        if not difference <= bound:
            raise ValueError(f"{found.path}: not exported, as on {len(batch)} images {result[-1]}")
    return result


def sample_images(metadata: CheckpointMetadata) -> Pixels:
    """(N, S, S, C) uint8: the golden sample, and a few images of random blocks, always the same."""
    p = metadata.preprocessing
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (RANDOM_IMAGES, BLOCKS, BLOCKS, p.channels), dtype=np.uint8)
    place = np.arange(p.size) * BLOCKS // p.size  # of each pixel, the block that it shows
    golden = golden_pixels(metadata.golden.image, p)
    return np.concatenate([golden[None], blocks[:, place][:, :, place]])
