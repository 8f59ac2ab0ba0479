"""The command that converts weights of others to a checkpoint, and a checkpoint to other formats.

`python -m models.convert IN --labels labels.txt --out OUT.safetensors` makes a checkpoint of weights from elsewhere.
What the weights do not tell must be given. `python -m models.convert IN.safetensors --to onnx --out OUT` exports a
checkpoint. Owns the flags and the checks before the work.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from models import checkpoint
from models.export.targets import TARGETS, export_checkpoint
from models.export.timm import read_timm_config
from models.files import check_writable, read_file, replace_atomically
from models.golden import record_golden_sample, synthetic_image
from models.labels import read_labels
from models.metadata import CheckpointMetadata
from models.networks.registry import NAMES
from models.preprocess import INTERPOLATIONS, Preprocessing
from models.presets import PRESETS, SETTINGS, choose_preprocessing
from models.state_dicts.importing import Expected, import_weights
from models.state_dicts.reading import find_weights_file

IMPORT_FLAGS = ("labels", "architecture", "which", "preprocessing", *SETTINGS)


def main(argv: Sequence[str] | None = None) -> int:
    """Converts as the arguments say. Returns 0, or 1 after one line on stderr."""
    args = _parser().parse_args(argv)
    try:
        summary = convert(args)
    except (OSError, ValueError) as error:
        return _fail(error)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not re.search(r"can't allocate|not enough memory", str(error)):
            raise
        return _fail(f"{args.source}: this machine's memory is too small for it")
    sys.stdout.write(summary + "\n")
    return 0


def convert(args: argparse.Namespace) -> str:
    """Does what the arguments say and returns what was written, in words. Raises OSError or ValueError."""
    check_writable(args.out)
    if args.to:
        _refuse(args, IMPORT_FLAGS, "is for weights from elsewhere; with --to, the checkpoint tells it")
        return export_checkpoint(args.source, args.to, args.out)
    try:
        file = find_weights_file(args.source)
    except ValueError as error:
        raise ValueError(f"{args.source}: {error}") from error
    _check_out(args.out, file)
    return copy_checkpoint(args, file) if file.is_file() and checkpoint.is_checkpoint(file) else make_checkpoint(args)


def copy_checkpoint(args: argparse.Namespace, file: Path) -> str:
    """Writes the checkpoint that an export for the Hugging Face Hub contains, or that the file itself is."""
    _refuse(
        args, IMPORT_FLAGS, f"is for weights from elsewhere; {file} is a checkpoint of this project, which tells it"
    )
    contents = read_file(file)
    found = checkpoint.parse_checkpoint(file, contents)
    checkpoint.restore_model(found)  # checks that the weights fit
    with replace_atomically(args.out) as out:  # the bytes as they are: safetensors writes its metadata in any order
        out.write(contents.data)
    return f"wrote {args.out}: version {found.version}, the checkpoint that {args.source} holds"


def make_checkpoint(args: argparse.Namespace) -> str:
    """Reads, converts and writes. Returns a line that says what was taken and a line that says what was written.

    Raises OSError or ValueError, naming what is wrong or missing.
    """
    told = read_timm_config(args.source) if args.source.is_dir() else None
    labels = read_labels(args.labels) if args.labels else told and told[1]
    if not labels:
        raise ValueError("the weights do not tell the names of their classes; give --labels")
    given = choose_preprocessing({name: getattr(args, name) for name in SETTINGS}, args.preprocessing, told and told[0])
    expected = Expected(args.architecture, len(given["mean"]), given["input_size"], args.which)
    found = import_weights(args.source, expected)
    a = found.architecture
    preprocessing = Preprocessing(
        size=a.input_size,
        resize=a.input_size if given["resize"] is None else given["resize"],
        mean=given["mean"],
        std=given["std"],
        channels=a.in_channels,
        interpolation=given["interpolation"] or "bilinear",
        color="srgb",
    )
    metadata = CheckpointMetadata(
        architecture=a,
        labels=labels,
        preprocessing=preprocessing,
        golden=record_golden_sample(found.model, preprocessing, synthetic_image(preprocessing.size)),
        temperature=told[2] if told else 1.0,
        recipe={"converted_from": args.source.name},
    )
    version = checkpoint.write_checkpoint(args.out, metadata, found.model)
    return (
        f"took {found.origin}\nwrote {args.out}: version {version}, {a.name} (head {a.head}), "
        f"{a.num_classes} classes, {a.in_channels} x {a.input_size} x {a.input_size} pixels"
    )


def _check_out(out: Path, source: Path) -> None:
    """Raises ValueError before any work if a checkpoint must not be written there."""
    if out.is_dir():
        raise ValueError(f"{out}: is a folder, but must be a file's name")
    if out.exists() and source.exists() and out.samefile(source):
        raise ValueError(f"{out}: is the file that is read; give another name")
    if out.suffix != ".safetensors":
        raise ValueError(f"{out}: must end in .safetensors")
    if out.exists() and not checkpoint.is_checkpoint(out):
        raise ValueError(f"{out}: exists already and is no checkpoint; remove it or give another name")


def _refuse(args: argparse.Namespace, flags: Sequence[str], why: str) -> None:
    if given := [name for name in flags if getattr(args, name) is not None]:
        raise ValueError(f"--{given[0].replace('_', '-')} {why}")


def _fail(error: object) -> int:
    sys.stderr.write(f"error: {error}\n")
    return 1


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not numbers with commas between, one a channel") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.convert",
        description="Make a checkpoint of weights for a VGG or AlexNet with the names of torchvision, timm, the "
        "tutorial's VGGNet or this project; or, with --to, something for another runtime of a checkpoint.",
    )
    parser.add_argument(
        "source",
        metavar="IN",
        type=Path,
        help="a file of torch.save or safetensors, or a folder with one; with --to, a checkpoint",
    )
    parser.add_argument("--out", required=True, type=Path, help="what to write; with --to, it must not exist")
    parser.add_argument(
        "--to",
        choices=TARGETS,
        help="onnx: one file from pixels to probabilities; timm: a folder for timm.create_model; "
        "hf: a folder for the Hugging Face Hub, with a model card",
    )
    imports = parser.add_argument_group("for weights from elsewhere")
    imports.add_argument(
        "--labels", type=Path, help="class names in index order: text, one a line; or JSON, such as a config's id2label"
    )
    imports.add_argument(
        "--which", metavar="NAME", help="of several networks in the file, the one under that key (the averaged one)"
    )
    imports.add_argument(
        "--architecture", choices=NAMES, metavar="NAME", help="refuse weights of any other, such as vgg16_bn"
    )
    imports.add_argument(
        "--preprocessing", choices=PRESETS, help="imagenet: all of the following, as published weights have it"
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
