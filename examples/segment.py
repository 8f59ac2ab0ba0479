"""A U-Net on our VGG finds shapes on textured backgrounds, after some two minutes on one CPU core.

`python -m examples.segment --out FILE` draws its pictures, trains, prints loss and IoU per epoch and
writes held-out images beside their truth and the prediction. Owns the training and what it is measured
by; the pictures are `examples.scenes`, the network is `models.networks.unet`.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from examples.scenes import CLASSES, SIZE, Scenes, scenes
from models.networks.registry import Architecture, build_network
from models.networks.unet import UNet
from models.networks.vgg import VGG
from models.normalise import normalise
from models.preprocess import Preprocessing

ENCODER = Architecture("vgg11_bn", len(CLASSES), input_size=SIZE, head="pooled", width=1 / 4)
PREPROCESSING = Preprocessing(SIZE, SIZE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
TRAIN_IMAGES, HELD_OUT_IMAGES = 3072, 256
BATCH_SIZE, RATE = 16, 0.02
THREADS = 1  # a second one saves two fifths of the time on idle cores, and beside a busy process multiplies it

PALETTE = np.array([(0, 0, 0), (86, 180, 233), (230, 159, 0), (0, 158, 115), (240, 228, 66)], np.uint8)  # of CLASSES
SHOWN, ACROSS, ENLARGED, GAP = 12, 2, 2, 4  # scenes in the picture, those side by side; times; pixels


def network() -> UNet:
    """A fresh U-Net for CLASSES; torch's global generator decides its weights."""
    encoder = build_network(ENCODER)
    assert isinstance(encoder, VGG)
    return UNet(encoder, len(CLASSES)).to(memory_format=torch.channels_last)


def train(model: UNet, data: Scenes, epochs: int) -> Iterator[float]:
    """Trains `model` in place and gives the mean loss of each epoch as it ends.

    Takes whole batches of BATCH_SIZE, in an order that torch's global generator decides.
    """
    steps = len(data.images) // BATCH_SIZE
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=epochs * steps)
    for _ in range(epochs):
        model.train()
        total = 0.0
        for indices in torch.randperm(len(data.images))[: steps * BATCH_SIZE].view(steps, BATCH_SIZE):
            logits = model(normalise(data.images[indices], PREPROCESSING))  # (N, K, S, S)
            loss = F.cross_entropy(logits, data.masks[indices])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item()
        yield total / steps


@torch.inference_mode()
def predict(model: UNet, images: Tensor) -> Tensor:
    """(N, S, S, 3) uint8 -> (N, S, S) int64: the likeliest class of each pixel."""
    model.eval()
    return torch.cat([model(normalise(batch, PREPROCESSING)).argmax(1) for batch in torch.split(images, BATCH_SIZE)])


def intersection_over_union(predicted: Tensor, truth: Tensor) -> Tensor:
    """(K,): of the pixels that either mask gives to a class, the share that both do; nan if there are none.

    Takes masks of any shape, both the same, and counts over all of it.
    """
    k = len(CLASSES)
    confusion = torch.bincount((truth * k + predicted).flatten(), minlength=k * k).view(k, k).double()
    both = confusion.diag()
    return both / (confusion.sum(0) + confusion.sum(1) - both)


def picture(images: Tensor, truth: Tensor, predicted: Tensor) -> Image.Image:
    """Each scene beside its truth and its prediction, ACROSS scenes a row."""
    masks = [torch.from_numpy(PALETTE)[mask] for mask in (truth, predicted)]
    tiles = torch.stack([images, *masks], dim=1).flatten(0, 1).numpy()  # (3 N, S, S, 3)
    columns, pitch = 3 * ACROSS, SIZE * ENLARGED + GAP
    canvas = Image.new("RGB", (columns * pitch - GAP, len(tiles) // columns * pitch - GAP), "white")
    for i, tile in enumerate(tiles):
        row, column = divmod(i, columns)
        enlarged = Image.fromarray(tile).resize((SIZE * ENLARGED,) * 2, Image.Resampling.NEAREST)
        canvas.paste(enlarged, (column * pitch, row * pitch))
    return canvas


def main(argv: Sequence[str] | None = None) -> int:
    """Trains as the arguments say; 0, or 1 with one line on stderr."""
    args = _parser().parse_args(argv)
    try:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.open("ab").close()  # finds out before the training whether there is a place for the picture
    except OSError as error:
        sys.stderr.write(f"error: out is {args.out}, but no file can be written there ({error.strerror})\n")
        return 1
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    held_out, model, started = scenes(HELD_OUT_IMAGES, seed=1), network(), time.perf_counter()
    for epoch, loss in enumerate(train(model, scenes(TRAIN_IMAGES, seed=0), args.epochs), start=1):
        predicted = predict(model, held_out.images)
        iou = intersection_over_union(predicted, held_out.masks)
        shares = "  ".join(f"{name} {share:.3f}" for name, share in zip(CLASSES, iou.tolist(), strict=True))
        seconds = time.perf_counter() - started
        print(f"epoch {epoch:2}  loss {loss:.4f}  IoU {iou.nanmean():.3f}  ({shares})  {seconds:.0f} s", flush=True)
    picture(held_out.images[:SHOWN], held_out.masks[:SHOWN], predicted[:SHOWN]).save(args.out, "PNG", optimize=True)
    print(f"wrote {args.out}: image, truth and prediction of {SHOWN} held-out scenes")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.segment",
        description="Train a small U-Net to find shapes in pictures that it draws, and picture what it finds.",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="the picture, NAME.png")
    parser.add_argument("--epochs", type=_positive, default=6, metavar="N", help="passes over the images (%(default)s)")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
