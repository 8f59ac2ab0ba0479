"""Images that no decoder flattens, and their encoded files."""

import io

import numpy as np
from PIL import Image


def random_image(seed: int = 0, size: tuple[int, int] = (40, 50)) -> Image.Image:
    """An RGB image of `size` (width, height): blocks of random colours, so that no decoder flattens it."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST)


def encoded(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    """The image as a file's bytes."""
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()
