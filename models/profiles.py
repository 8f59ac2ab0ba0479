"""Colour profiles: from the colours of an embedded ICC profile, or of CIE L*a*b*, to sRGB.

Owns which profiles are used. A profile that is broken, is of another colour space than the picture, or differs from
sRGB by no more than rounding, is ignored.
"""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}  # by Pillow's mode: the profile's colour space
CACHED_TRANSFORMS = 8  # each holds its profile, of 4 MiB at most
LEVELS = 6  # of each channel, for the comparison with sRGB
SAME = 2  # largest difference of a channel, of 255, for a profile that is sRGB


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An L, RGB, CMYK or LAB image as sRGB (mode RGB), or the image itself if no conversion applies."""
    transform = _find_transform(image.mode, profile)
    if transform is None:
        return image
    return ImageCms.applyTransform(image, transform) or image


def is_converted(mode: str, profile: bytes | None) -> bool:
    """Whether `to_srgb` changes images of the mode."""
    return _find_transform(mode, profile) is not None


@lru_cache(CACHED_TRANSFORMS)
def _find_transform(mode: str, profile: bytes | None) -> ImageCms.ImageCmsTransform | None:
    try:
        if mode == "LAB":
            return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), mode, "RGB")
        if profile is None or mode not in SPACES:
            return None
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != SPACES[mode]:
            return None
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None
    return None if _is_srgb(mode, transform) else transform


def _is_srgb(mode: str, transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether colours over the whole range stay as they are."""
    if mode == "CMYK":
        return False
    grid = np.linspace(0, 255, LEVELS).round().astype(np.uint8)
    channels = np.stack(np.meshgrid(*[grid] * len(mode), indexing="ij"), axis=-1).reshape(1, -1, len(mode))
    before = Image.fromarray(channels.squeeze(2) if mode == "L" else channels)
    after = ImageCms.applyTransform(before, transform)
    assert after is not None
    changes = np.asarray(after).astype(int) - np.asarray(before.convert("RGB"))
    return bool(np.abs(changes).max() <= SAME)
