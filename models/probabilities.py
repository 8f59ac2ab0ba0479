"""From logits to probabilities: the one place where softmax is applied.

Owns the temperature. Knows nothing of images, networks or HTTP.
"""

from torch import Tensor


def softmax(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """(N, K) logits of any float type -> (N, K) probabilities, computed in float64, given in float32.

    `temperature` divides the logits (Guo et al., arXiv 1706.04599); 1 leaves them as trained.
    """
    return (logits.double() / temperature).softmax(dim=1).float()
