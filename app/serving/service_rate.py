"""How fast the model answers images: the basis of Retry-After."""

import math

SMOOTHING = 0.2  # weight of the newest batch in the exponential moving average


class ServiceRate:
    """An exponential moving average of the seconds per image, over all replicas together.

    Several threads may call it if a lock keeps their calls to `observe` apart.
    """

    def __init__(self) -> None:
        self._seconds_per_image = 0.0

    def observe(self, images: int, seconds: float, replicas: int) -> None:
        """Adds a batch of that many images, which took `seconds` on one of `replicas` that work in parallel."""
        seconds_per_image = seconds / images / replicas
        weight = SMOOTHING if self._seconds_per_image else 1.0
        self._seconds_per_image += weight * (seconds_per_image - self._seconds_per_image)

    def retry_after(self, waiting_images: int) -> int:
        """Whole seconds, at least 1, until that many images are answered. Those being decoded count as waiting."""
        return max(1, math.ceil(waiting_images * self._seconds_per_image))
