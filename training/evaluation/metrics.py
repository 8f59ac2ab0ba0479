"""What a network says of a split, and how often it is right.

Knows nothing of training or of files.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.preprocess import Preprocessing, normalise


@torch.inference_mode()
def compute_logits(model: nn.Module, images: Tensor, preprocessing: Preprocessing, batch_size: int) -> Tensor:
    """(N, K) logits in float32, in CPU memory, of (N, S, S, C) uint8 images; `model` is in evaluation mode."""
    return torch.cat([model(normalise(batch, preprocessing)).cpu() for batch in torch.split(images, batch_size)])


def accuracy_metrics(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Of (N, K) logits against (N,) labels the `accuracy`, the `balanced_accuracy`, and the `loss`.

    Balanced accuracy is the mean over the classes of the share that is right; the loss is the cross-entropy
    in nats.
    """
    right = (logits.argmax(1) == labels).double()
    counts = torch.bincount(labels, minlength=logits.shape[1])
    hits = torch.bincount(labels, right, minlength=logits.shape[1])
    return {
        "accuracy": float(right.mean()),
        "balanced_accuracy": float((hits / counts)[counts > 0].mean()),
        "loss": float(F.cross_entropy(logits.double(), labels)),
    }
