"""The command between checkpoints and the formats of others, in either direction.

`python -m models.convert IN --labels labels.txt --out OUT.safetensors` makes a checkpoint of weights
from elsewhere and asks for what they cannot tell; `python -m models.convert IN.safetensors --to onnx
--out OUT` makes something else of a checkpoint. Owns its flags and the presets of preprocessing; knows
nothing of the files' insides.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from models import checkpoint
from models.checkpoint import CheckpointMetadata
from models.export.targets import TARGETS, export_checkpoint
from models.golden import record_golden_sample
from models.networks.registry import NAMES
from models.preprocess import INTERPOLATIONS, Preprocessing
from models.state_dicts import load_state_dict_file

PRESETS = {  # imagenet: what torchvision's weights for classification were measured with
    "imagenet": Preprocessing(size=224, resize=256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
}
IMPORT_FLAGS = ("labels", "architecture", "preprocessing", "input_size", "mean", "std", "resize", "interpolation")


def main(argv: Sequence[str] | None = None) -> int:
    """Converts as the arguments say; 0, or 1 with one line on stderr."""
    args = _parser().parse_args(argv)
    try:
        summary = export(args) if args.to else import_weights(args)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(summary + "\n")
    return 0


def export(args: argparse.Namespace) -> str:
    """Exports the checkpoint; a line that says what was written and how far it differs from ours.

    Raises OSError or ValueError, naming what is wrong or missing.
    """
    if given := [name for name in IMPORT_FLAGS if getattr(args, name) is not None]:
        flag = "--" + given[0].replace("_", "-")
        raise ValueError(f"{flag} is for weights from elsewhere; with --to, the checkpoint tells it")
    return export_checkpoint(args.source, args.to, args.out)


def import_weights(args: argparse.Namespace) -> str:
    """Reads, converts and writes; a line that says what was written.

    Raises OSError or ValueError, naming what is wrong or missing.
    """
    if args.labels is None:
        raise ValueError("the weights do not tell the names of their classes; give --labels")
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
        color="srgb",
    )
    metadata = CheckpointMetadata(
        architecture=architecture,
        labels=labels,
        preprocessing=preprocessing,
        golden=record_golden_sample(model, preprocessing, synthetic_image(preprocessing.size)),
        recipe={"converted_from": args.source.name},
    )
    a, version = architecture, checkpoint.write_checkpoint(args.out, metadata, model)
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
        description="Make a checkpoint of a state dict of torchvision's VGG or AlexNet, or of the tutorial's VGGNet; "
        "or, with --to, something for another runtime of a checkpoint.",
    )
    parser.add_argument(
        "source", metavar="IN", type=Path, help="what torch.save made of model.state_dict(); with --to, a checkpoint"
    )
    parser.add_argument("--out", required=True, type=Path, help="what to write; with --to, it must not exist")
    parser.add_argument(
        "--to",
        choices=TARGETS,
        help="onnx: one file from pixels to probabilities; timm: a folder for timm.create_model; "
        "hf: a folder for the Hugging Face Hub, with a model card",
    )
    imports = parser.add_argument_group("for weights from elsewhere")
    imports.add_argument("--labels", type=Path, help="text file, one class name a line, in index order")
    imports.add_argument(
        "--architecture", choices=NAMES, metavar="NAME", help="refuse weights of any other, such as vgg16_bn"
    )
    imports.add_argument(
        "--preprocessing", choices=PRESETS, help="imagenet: all of the following, as torchvision has it"
    )
    imports.add_argument("--input-size", type=int, metavar="N", help="pixels; torchvision's weights do not tell it")
    imports.add_argument(
        "--mean", type=_numbers, metavar="R,G,B", help="subtracted, on a scale of 0 to 1, one a channel"
    )
    imports.add_argument("--std", type=_numbers, metavar="R,G,B", help="divided by, likewise")
    imports.add_argument(
        "--resize", type=int, metavar="N", help="shorter side before the central crop (the input size)"
    )
    imports.add_argument("--interpolation", choices=INTERPOLATIONS, help="of the resizing (bilinear)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
