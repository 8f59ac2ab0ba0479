"""How typical an image is, compared with the images of the calibration: a conformal p-value of its energy."""

import bisect

from torch import Tensor

from models.probabilities import Calibration


def energy(logits: Tensor) -> Tensor:
    """(N, K) logits -> (N,) energies in float64. Unusual images have higher ones (Liu et al., arXiv 2010.03759)."""
    return -logits.double().logsumexp(dim=1)


def typicality(logits: Tensor, calibration: Calibration) -> list[float]:
    """For each row of (N, K) logits, the share in (0, 1] of images whose energy is at least as high.

    The image itself is counted, which makes the share a p-value: among images like those of the calibration, at most
    the share p gets p or less, for every p (Bates et al., arXiv 2104.08279).
    """
    energies = calibration.energies
    total = len(energies) + 1
    return [(total - bisect.bisect_left(energies, value)) / total for value in energy(logits).tolist()]
