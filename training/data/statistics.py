"""What is computed over all images of a split: mean and standard deviation, and hashes that tell other data."""

import hashlib

import torch
from torch import Tensor

ROWS_AT_ONCE = 256  # images of which a histogram is computed at once


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of (N, S, S, C) uint8 images per channel, on a scale of 0 to 1."""
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in images.unbind(3):  # from histograms of a few images: no copy of all of them
        counts = torch.zeros(256, dtype=torch.int64)
        for start in range(0, len(channel), ROWS_AT_ONCE):
            counts += torch.bincount(channel[start : start + ROWS_AT_ONCE].flatten(), minlength=256)
        share = counts.double() / channel.numel()
        mean = (share * values).sum()
        means.append(round(float(mean), 4))
        stds.append(max(round(float((share * (values - mean) ** 2).sum().sqrt()), 4), 1e-4))
    return tuple(means), tuple(stds)


def fingerprint(images: Tensor, labels: Tensor) -> str:
    """A SHA-256, in hex, of (N, S, S, C) uint8 images and their (N,) int64 labels."""
    digest = hashlib.sha256(f"{tuple(images.shape)}".encode())
    digest.update(images.numpy().data)
    digest.update(labels.numpy().data)
    return digest.hexdigest()


def identify_image(pixels_digest: bytes, label: str) -> str:
    """Eight bytes, in hex, of a SHA-256 of an image's label and of the digest of its pixels."""
    return hashlib.sha256(label.encode() + b"\0" + pixels_digest).hexdigest()[:16]
