"""The command that makes a servable checkpoint of weights from elsewhere.

`python -m models.convert IN --labels labels.txt --out OUT.safetensors` asks for what the weights
cannot tell. Owns its flags and the presets of preprocessing; knows nothing of the files' insides.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from models import checkpoint
from models.checkpoint import Description
from models.golden import record
from models.preprocess import INTERPOLATIONS, Preprocessing
from models.registry import NAMES
from models.state_dicts import load_state_dict_file

PRESETS = {  # imagenet: what torchvision's weights for classification were measured with
    "imagenet": Preprocessing(size=224, resize=256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Converts as the arguments say; 0, or 1 with one line on stderr."""
    try:
        summary = convert(_parser().parse_args(argv))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(summary + "\n")
    return 0


def convert(args: argparse.Namespace) -> str:
    """Reads, converts and writes; a line that says what was written.

    Raises OSError or ValueError, naming what is wrong or missing.
    """
    labels = _labels(args.labels)
    given = (args.mean, args.std, args.input_size, args.resize, args.interpolation)
    if args.preprocessing:
        if any(value is not None for value in given):
            raise ValueError(
                "--preprocessing stands for --mean, --std, --input-size, --resize and --interpolation; give it or them"
            )
        preset = PRESETS[args.preprocessing]
        given = (preset.mean, preset.std, preset.size, preset.resize, preset.interpolation)
    mean, std, size, resize, interpolation = given
    if mean is None or std is None:
        raise ValueError(
            "the weights do not tell how images are normalised; give --mean and --std, or --preprocessing imagenet"
        )
    architecture, model = load_state_dict_file(args.source, args.architecture, in_channels=len(mean), input_size=size)
    preprocessing = Preprocessing(
        size=architecture.input_size,
        resize=architecture.input_size if resize is None else resize,
        mean=mean,
        std=std,
        channels=architecture.in_channels,
        interpolation=interpolation or "bilinear",
    )
    description = Description(
        architecture=architecture,
        labels=labels,
        preprocessing=preprocessing,
        golden=record(model, preprocessing, synthetic_image(preprocessing.size)),
        recipe={"converted_from": args.source.name},
    )
    a, version = architecture, checkpoint.write(args.out, description, model)
    return (
        f"wrote {args.out}: version {version}, {a.name} (head {a.head}), "
        f"{a.num_classes} classes, {a.in_channels} x {a.input_size} x {a.input_size} pixels"
    )


def synthetic_image(size: int) -> Image.Image:
    """A colourful size x size image for the golden sample, always the same: gradients with waves over them."""
    y, x = np.mgrid[0:size, 0:size] / size
    gradients = np.stack([x, y, 1 - (x + y) / 2], axis=2)  # (S, S, 3), 0 to 1
    waves = np.sin(2 * np.pi * np.stack([11 * x + 5 * y, 7 * x - 13 * y, 17 * x * y], axis=2))
    return Image.fromarray((255 * (0.7 * gradients + 0.15 * (1 + waves))).round().astype(np.uint8))


def _labels(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not UTF-8 text") from error
    return tuple(line.strip() for line in text.rstrip().split("\n"))


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not numbers with commas between, one a channel") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.convert",
        description="Make a checkpoint of a state dict of torchvision's VGG or AlexNet, or of the blog's VGGNet.",
    )
    parser.add_argument("source", metavar="IN", type=Path, help="what torch.save made of model.state_dict()")
    parser.add_argument("--labels", required=True, type=Path, help="text file, one class name a line, in index order")
    parser.add_argument("--out", required=True, type=Path, help="the checkpoint to write, OUT.safetensors")
    parser.add_argument(
        "--architecture", choices=NAMES, metavar="NAME", help="refuse weights of any other, such as vgg16_bn"
    )
    parser.add_argument(
        "--preprocessing", choices=PRESETS, help="imagenet: all of the following, as torchvision has it"
    )
    parser.add_argument("--input-size", type=int, metavar="N", help="pixels; torchvision's weights do not tell it")
    parser.add_argument(
        "--mean", type=_numbers, metavar="R,G,B", help="subtracted, on a scale of 0 to 1, one a channel"
    )
    parser.add_argument("--std", type=_numbers, metavar="R,G,B", help="divided by, likewise")
    parser.add_argument("--resize", type=int, metavar="N", help="shorter side before the central crop (the input size)")
    parser.add_argument("--interpolation", choices=INTERPOLATIONS, help="of the resizing (bilinear)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
