"""One replica: a checkpoint's network on one device in one precision, from uint8 batches to logits.

Owns where the network is placed, in which precision, and that it gives the trained answer for the golden sample.
"""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from app.serving.autotune import find_max_batch_size, find_threads
from app.serving.entry import NetworkInput
from models.checkpoint import Checkpoint, CheckpointError, restore_model
from models.device import find_device, has_fast_bfloat16
from models.golden import golden_pixels, largest_probability_change
from models.inference.fuse import fuse
from models.inference.prepack import can_prepack, prepack
from models.metadata import CheckpointMetadata
from models.normalise import normalise
from models.predictions import Logits, Prediction, make_predictions

log = logging.getLogger("vggserve.classifier")

# The largest allowed change of a probability of the golden sample. float32 on another machine adds in another order,
# which changes less than 1e-5. bfloat16 keeps 8 bits of a logit, which changes some tenths of a per cent.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 1e-2, torch.float16: 1e-2}
MAX_BATCH_SIZES = {"cuda": 256, "cpu": 32}  # images, the largest batch that autotune tries


class Classifier:
    """A network that is placed on a device and fused for inference. Used by one thread at a time."""

    def __init__(
        self, model: nn.Module, metadata: CheckpointMetadata, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.name = str(device)
        self.dtype = dtype
        self.max_batch_size = 1
        self._metadata = metadata
        self._golden = golden_pixels(metadata.golden.image, metadata.preprocessing)
        self._device = device
        state = {name: _place(tensor, device, dtype) for name, tensor in model.state_dict().items()}
        model.load_state_dict(state, assign=True)
        self._model = prepack(model) if device.type == "cpu" and can_prepack(dtype) else model

    def compute_logits(self, images: Sequence[NetworkInput]) -> Logits:
        """N images of (S, S, C) uint8, or (C, S, S) float32 where they are normalised, -> (N, K) float32 logits.

        Raises what torch raises: OutOfMemoryError, or RuntimeError for a device that is lost.
        """
        normalised = [index for index, image in enumerate(images) if image.dtype.kind == "f"]
        logits = self._forward_mixed(images, normalised) if normalised else self.forward(self._upload(images))
        result: Logits = logits.cpu().numpy()
        return result

    def make_predictions(self, logits: Logits) -> list[Prediction]:
        """(N, K) logits -> one prediction for each image."""
        return make_predictions(torch.from_numpy(logits), self._metadata.temperature, self._metadata.calibration)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """(N, S, S, C) uint8 -> (N, K) float32 logits, both on the classifier's device."""
        logits: Tensor = self._model(normalise(images, self._metadata.preprocessing).to(self.dtype))
        return logits.float()

    @torch.inference_mode()
    def _forward_mixed(self, images: Sequence[NetworkInput], normalised: Sequence[int]) -> Tensor:
        """One batch of both kinds of input. `normalised` has the indices of the float32 ones."""
        tensors = self._upload([images[index] for index in normalised])
        batch = torch.empty(
            (len(images), *tensors.shape[1:]),
            dtype=self.dtype,
            device=self._device,
            memory_format=torch.channels_last,
        )
        batch[torch.tensor(normalised, device=self._device)] = tensors.to(self.dtype)
        pixels = sorted(set(range(len(images))) - set(normalised))
        if pixels:
            uploaded = self._upload([images[index] for index in pixels])
            inputs = normalise(uploaded, self._metadata.preprocessing)
            batch[torch.tensor(pixels, device=self._device)] = inputs.to(self.dtype)
        logits: Tensor = self._model(batch)
        return logits.float()

    def _upload(self, images: Sequence[NetworkInput]) -> Tensor:
        """Stacks images of one kind on the device."""
        kind = torch.uint8 if images[0].dtype.kind == "u" else torch.float32
        # A GPU copies from pinned memory while the CPU continues.
        batch = torch.empty((len(images), *images[0].shape), dtype=kind, pin_memory=self._device.type == "cuda")
        np.stack(images, out=batch.numpy())
        return batch.to(self._device, non_blocking=True)

    def measure_golden_change(self) -> float:
        """The largest difference of a probability of the golden sample from the trained network's."""
        logits = torch.from_numpy(self.compute_logits([self._golden])[0])
        return largest_probability_change(self._metadata.golden, logits, self._metadata.temperature)

    def passes_golden_check(self) -> bool:
        """Whether the golden sample's probabilities are still within the tolerance."""
        return self.measure_golden_change() <= TOLERANCE[self.dtype]

    def run_golden_batch(self, batch_size: int) -> Logits:
        """Computes the logits of a batch that holds the golden sample `batch_size` times."""
        return self.compute_logits([self._golden] * batch_size)


def load_classifier(
    checkpoint: Checkpoint, device: str, dtype: str, max_batch: int | None = None, replicas: int = 1
) -> Classifier:
    """Restores and fuses the network, chooses its precision by the golden sample, and autotunes it.

    `dtype` is "auto" or the name of a torch type, `replicas` the number of classifiers that share the machine. Raises
    CheckpointError for weights that do not fit the architecture and for a golden sample's answer that is not the
    trained one, and ValueError for a device that is not there.
    """
    target = find_device(device)
    for candidate in [getattr(torch, dtype)] if dtype != "auto" else _candidate_dtypes(target):
        classifier = Classifier(fuse(restore_model(checkpoint)), checkpoint.metadata, target, candidate)
        change = _measure_golden_change(classifier)
        if change <= TOLERANCE[candidate]:
            if target.type == "cpu":
                find_threads(classifier.run_golden_batch, replicas)
            classifier.max_batch_size = find_max_batch_size(
                classifier.run_golden_batch, max_batch or MAX_BATCH_SIZES[target.type]
            )
            return classifier
        log.warning("%s on %s moves a probability of the golden sample by %.2g", candidate, target, change)
    fault = f"does not give its golden sample's answer on {target} in {candidate}: a probability moves by {change:.2g}"
    raise CheckpointError(checkpoint.path, fault)


def _measure_golden_change(classifier: Classifier) -> float:
    """The same, but infinite where torch has no kernel, as for response normalisation in bfloat16 on a CPU."""
    try:
        return classifier.measure_golden_change()
    except NotImplementedError:
        return float("inf")


def _place(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Moves a weight to the device and the precision. Weights of convolutions become channels_last."""
    moved = tensor.to(device, dtype if tensor.is_floating_point() else None)
    return moved.contiguous(memory_format=torch.channels_last) if moved.dim() == 4 else moved


def _candidate_dtypes(device: torch.device) -> list[torch.dtype]:
    """The precisions to try, from the fastest to the most exact."""
    if has_fast_bfloat16(device):
        return [torch.bfloat16, torch.float32]
    return [torch.float16, torch.float32] if device.type == "cuda" else [torch.float32]
