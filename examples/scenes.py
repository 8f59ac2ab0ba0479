"""Pictures of shapes on textured backgrounds, with the class of every pixel, drawn by numpy and Pillow."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]

SIZE = 64  # pixels a side
CLASSES = ("background", "disc", "square", "triangle", "star")
CORNERS = {"square": 4, "triangle": 3, "star": 10}
WAIST = 0.45  # a star's inner corners, as a share of its radius
RADII = (0.16, 0.32)  # of a shape, as a share of the picture's side
COLOURS = (30, 225)  # of 255: the mean of a texture in each channel
CONTRAST = 100  # of 255: least distance between the mean colours of a shape and of the background
OVERSAMPLING = 4  # outlines are drawn that much larger, which makes them smooth


@dataclass(frozen=True, slots=True, eq=False)
class Scenes:
    """`images` are (N, S, S, 3) uint8, `masks` (N, S, S) int64: the class of each pixel."""

    images: Tensor
    masks: Tensor


def scenes(count: int, seed: int) -> Scenes:
    """Draws `count` pictures of one or two shapes, the same ones for the same seed."""
    rng = np.random.default_rng(seed)
    images, masks = zip(*(_scene(rng) for _ in range(count)), strict=True)
    return Scenes(torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(masks)).long())


def _scene(rng: np.random.Generator) -> tuple[Bytes, Bytes]:
    """(S, S, 3) pixels and (S, S) classes. Only its outline tells what a shape is: colours are random."""
    ground = rng.uniform(*COLOURS, 3)
    image, mask = _texture(rng, ground), np.zeros((SIZE, SIZE), np.uint8)
    for _ in range(rng.integers(1, 3)):
        kind = rng.integers(1, len(CLASSES))
        cover = _shape(rng, CLASSES[kind])
        filling = _texture(rng, _other_colour(rng, ground))
        image += (filling - image) * cover[..., None]
        mask[cover >= 0.5] = kind
    image += rng.normal(0, rng.uniform(2, 10), image.shape)  # a camera's noise
    return image.clip(0, 255).astype(np.uint8), mask


def _texture(rng: np.random.Generator, colour: Floats) -> Floats:
    """(S, S, 3): clouds around a colour, fainter the smaller they are, as the detail of photographs is."""
    image = np.tile(colour, (SIZE, SIZE, 1))
    for cells in (2, 4, 8, 16, 32):
        coarse = Image.fromarray(rng.normal(0, 1, (cells, cells)).astype(np.float32))
        cloud = np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC))
        image += cloud[..., None] * rng.uniform(0, 100, 3) / cells**0.8
    return image


def _other_colour(rng: np.random.Generator, ground: Floats) -> Floats:
    while np.linalg.norm((colour := rng.uniform(*COLOURS, 3)) - ground) < CONTRAST:
        pass
    return colour


def _shape(rng: np.random.Generator, name: str) -> Floats:
    """(S, S), 0 to 1: how much of each pixel a shape covers that has a random place, size and turn."""
    large = SIZE * OVERSAMPLING
    radius = rng.uniform(*RADII) * large
    x, y = rng.uniform(radius, large - radius, 2)
    canvas = Image.new("L", (large, large))
    if name == "disc":
        ImageDraw.Draw(canvas).circle((x, y), radius, fill=255)
    else:
        corner = np.arange(CORNERS[name])
        angles = rng.uniform(0, 2 * np.pi) + 2 * np.pi * corner / len(corner)
        radii = radius * np.where(corner % 2 & (name == "star"), WAIST, 1)
        outline = np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], axis=1)
        ImageDraw.Draw(canvas).polygon(outline.flatten().tolist(), fill=255)
    return np.asarray(canvas.resize((SIZE, SIZE), Image.Resampling.BOX)) / 255
