"""One replica: a checkpoint's network on one device in one precision, from uint8 batches to logits.

Owns devices, precisions, folding and warm-up. Knows nothing of queues, labels or HTTP.
"""

import logging
import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.checkpoint import Checkpoint, CheckpointError, restore
from models.fold import fold
from models.golden import deviation, golden_pixels
from models.preprocess import Pixels, Preprocessing, normalise

log = logging.getLogger("vggserve.classifier")

# How far a probability of the golden sample may move. float32 on another machine sums in another order
# and stays below 1e-5; bfloat16 keeps 8 bits of a logit, which is some tenths of a per cent.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 1e-2, torch.float16: 1e-2}
LARGEST_BATCH = {"cuda": 256, "cpu": 32}
WARM_UP_SECONDS = 2.0  # a batch that would take longer is not tried
WORTHWHILE_GAIN = 1.05  # a larger batch must give this many times the images per second


class Classifier:
    """(N, S, S, C) uint8 -> (N, K) float32 logits. Called by one thread at a time."""

    def __init__(
        self, model: nn.Module, preprocessing: Preprocessing, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.name = str(device)
        self.dtype = dtype
        self.ceiling = 1
        self._preprocessing = preprocessing
        self._device = device
        self._model = model.to(device, dtype).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def predict(self, batch: Pixels) -> NDArray[np.float32]:
        """Raises what torch raises: OutOfMemoryError, or RuntimeError for a device that is gone."""
        images = torch.from_numpy(batch)
        if self._device.type == "cuda":
            images = images.pin_memory().to(self._device, non_blocking=True)
        logits = self._model(normalise(images, self._preprocessing).to(self.dtype))
        result: NDArray[np.float32] = logits.float().cpu().numpy()
        return result


def load(checkpoint: Checkpoint, device: str, dtype: str, max_batch: int | None) -> Classifier:
    """Load, fold, choose the precision, check the golden sample, warm up.

    Raises CheckpointError for weights that do not fit or an answer that is not the trained one, and
    ValueError for a device that is not there.
    """
    target = find_device(device)
    description = checkpoint.description
    candidates = [getattr(torch, dtype)] if dtype != "auto" else _candidates(target)
    for candidate in candidates:
        classifier = Classifier(fold(restore(checkpoint)), description.preprocessing, target, candidate)
        moved = _golden_deviation(classifier, checkpoint)
        if moved <= TOLERANCE[candidate]:
            classifier.ceiling = _find_ceiling(classifier, checkpoint, max_batch)
            return classifier
        log.warning("%s on %s moves a probability of the golden sample by %.2g", candidate, target, moved)
    fault = f"does not give its golden sample's answer on {target} in {candidate}: a probability moves by {moved:.2g}"
    raise CheckpointError(checkpoint.path, fault)


def find_device(name: str) -> torch.device:
    """The device of that name; `auto` is the first GPU, or the CPU. Raises ValueError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device is {name!r}, but must be auto, cpu, cuda or cuda:N") from error
    count = torch.cuda.device_count() if device.type == "cuda" else int(device.type == "cpu")
    if (device.index or 0) >= count:
        raise ValueError(f"device is {name!r}, but there are {torch.cuda.device_count()} CUDA devices and the CPU")
    return device


def _candidates(device: torch.device) -> list[torch.dtype]:
    """Precisions from the fastest to the safest."""
    if device.type == "cuda":
        return [torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16, torch.float32]
    # No public name for these two in every torch from 2.9 on.
    if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        return [torch.bfloat16, torch.float32]
    return [torch.float32]


def _golden_deviation(classifier: Classifier, checkpoint: Checkpoint) -> float:
    description = checkpoint.description
    batch = golden_pixels(description.golden.image, description.preprocessing)[None]
    return deviation(description.golden, torch.from_numpy(classifier.predict(batch)[0]), description.temperature)


def _find_ceiling(classifier: Classifier, checkpoint: Checkpoint, max_batch: int | None) -> int:
    """The smallest batch beyond which images per second no longer grow, by trying 1, 2, 4, …

    Each size runs once to warm up and once for the clock.
    """
    description = checkpoint.description
    image = golden_pixels(description.golden.image, description.preprocessing)
    limit = max_batch or LARGEST_BATCH[classifier._device.type]
    best_rate, ceiling, size = 0.0, 1, 1
    while size <= limit:
        batch = np.repeat(image[None], size, axis=0)
        try:
            classifier.predict(batch)
            started = time.perf_counter()
            classifier.predict(batch)
        except torch.OutOfMemoryError:
            break
        seconds = time.perf_counter() - started
        if size / seconds > best_rate * WORTHWHILE_GAIN:
            best_rate, ceiling = size / seconds, size
        if 2 * seconds > WARM_UP_SECONDS:
            break
        size *= 2
    return min(ceiling, limit)
