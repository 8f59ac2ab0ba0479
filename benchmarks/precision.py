"""Ways for a CPU to compute the folded network: how fast, how exact, and what they cost when the server starts.

`python -m benchmarks.precision CHECKPOINT [IMAGES]` asks each way for batches of 1, 8 and 32 in turns, on one thread,
and holds its probabilities against those of the trained network in float32, on the image files of a folder or, without
one, on the golden sample; its top-1 as well, where files lie in folders with the labels' names. Compiling needs a C++
compiler and is left out where there is none. int8 is what torch has without another package: `torch.ao.quantization`,
which torch itself calls deprecated.
"""

import argparse
import shutil
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.lib.cpu_time import measure_cpu_milliseconds, median_ratio
from benchmarks.lib.report import describe_machine, format_table
from models.checkpoint import Checkpoint, read_checkpoint, restore_model
from models.golden import golden_pixels
from models.inference.fuse import fuse
from models.inference.prepack import prepack
from models.networks.vgg import VGG
from models.preprocess import normalise, preprocess
from models.probabilities import softmax

SERVED = "bfloat16, packed"
CONTROL = SERVED + ", again"
# From a folded network and some images, for those who need to see what comes, to a function.
Way = Callable[[nn.Module, Tensor], Callable[[Tensor], Tensor]]


def plain(layout: torch.memory_format, dtype: torch.dtype) -> Way:
    """As torch's own layers compute it."""

    def way(network: nn.Module, _: Tensor) -> Callable[[Tensor], Tensor]:
        placed = network.to(dtype).to(memory_format=layout)
        return lambda images: placed(images.contiguous(memory_format=layout))

    return way


def packed(dtype: torch.dtype) -> Way:
    """As the server does it."""
    return lambda network, _: prepack(network.to(dtype).to(memory_format=torch.channels_last))


def compiled(dtype: torch.dtype) -> Way:
    """By torch.compile, with the weights as constants."""
    import torch._inductor.config

    torch._inductor.config.freezing = True
    return lambda network, _: torch.compile(network.to(dtype).to(memory_format=torch.channels_last), dynamic=False)


def blocked(network: nn.Module, _: Tensor) -> Callable[[Tensor], Tensor]:
    """In oneDNN's own layout from the first layer to the last."""
    from torch.utils.mkldnn import to_mkldnn

    layers = to_mkldnn(in_one_row(network))  # type: ignore[no-untyped-call]
    return lambda images: layers(images.contiguous().to_mkldnn()).to_dense()


def int8(network: nn.Module, images: Tensor) -> Callable[[Tensor], Tensor]:
    """Ranges of the activations from the images, one scale a channel of the weights."""
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    torch.backends.quantized.engine = "x86"
    observed = prepare_fx(in_one_row(network), get_default_qconfig_mapping("x86"), (images,))
    observed(images)
    return convert_fx(observed)


def in_one_row(network: nn.Module) -> nn.Sequential:
    """A VGG as one sequence of layers."""
    assert isinstance(network, VGG)
    blocks = [layer for block in network.blocks for layer in (*block.children(), nn.MaxPool2d(2))]
    return nn.Sequential(*blocks, *network.head)


def ways() -> dict[str, tuple[torch.dtype, Way]]:
    """Each way's name, the precision of its images, and how a network is made to go it."""
    found: dict[str, tuple[torch.dtype, Way]] = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        found[f"{name}, channels first"] = dtype, plain(torch.contiguous_format, dtype)
        found[f"{name}, channels last"] = dtype, plain(torch.channels_last, dtype)
        found[f"{name}, packed"] = dtype, packed(dtype)
        if shutil.which("c++") or shutil.which("g++"):
            found[f"{name}, compiled"] = dtype, compiled(dtype)
    return found | {"float32, oneDNN's layout": (torch.float32, blocked), "int8, torch.ao": (torch.float32, int8)}


def images_of(checkpoint: Checkpoint, folder: Path | None, most: int) -> tuple[Tensor, Tensor]:
    """(N, C, S, S), normalised, and (N,) labels by their folders' names, -1 for any other name."""
    description = checkpoint.description
    if folder is None:
        batch = golden_pixels(description.golden.image, description.preprocessing)[None]
        return normalise(torch.from_numpy(batch), description.preprocessing), torch.tensor([-1])
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    chosen = files[:: max(1, len(files) // most)][:most]
    chosen = chosen[: len(chosen) // 32 * 32 or None]  # whole batches, as every size is compiled anew
    batch = np.stack([preprocess(Image.open(file), description.preprocessing).copy() for file in chosen])
    indices = {label: index for index, label in enumerate(description.labels)}
    labels = torch.tensor([indices.get(file.parent.name, -1) for file in chosen])
    return normalise(torch.from_numpy(batch), description.preprocessing), labels


def in_batches(network: Callable[[Tensor], Tensor], images: Tensor, dtype: torch.dtype) -> Tensor:
    """(N, K) probabilities."""
    return softmax(torch.cat([network(part.to(dtype)).float() for part in torch.split(images, 32)]))


def share(hits: Tensor) -> str:
    """Of True, and how many that are, so that differences of two rows can be counted."""
    return f"{float(hits.float().mean()):.2%} ({int(hits.sum())})"


@torch.inference_mode()
def report(path: Path, folder: Path | None, most: int, sizes: list[int], rounds: int) -> None:
    """Prints one row a way."""
    checkpoint = read_checkpoint(path)
    images, labels = images_of(checkpoint, folder, most)
    trained = in_batches(restore_model(checkpoint), images, torch.float32)
    networks, rows = {}, {}
    for name, (dtype, way) in ways().items():
        started = time.monotonic()
        network = way(fuse(restore_model(checkpoint)), images[:256])
        batches = [images[torch.arange(size) % len(images)].to(dtype) for size in sizes]
        for batch in batches:
            network(batch)
        seconds = time.monotonic() - started
        found = in_batches(network, images, dtype)
        moved, top = f"{float((found - trained).abs().max()):.1e}", found.argmax(1)
        rows[name] = (f"{seconds:.2f}", moved, share(top == trained.argmax(1)), share(top == labels))
        networks[name] = (network, batches)
    networks[CONTROL], rows[CONTROL] = networks[SERVED], rows[SERVED]
    rates: dict[str, list[str]] = {name: [] for name in networks}
    for number, size in enumerate(sizes):
        clocks = measure_cpu_milliseconds(
            {n: partial(f, batches[number]) for n, (f, batches) in networks.items()}, rounds
        )
        for name, taken in clocks.items():
            rate = f"{1000 * size / statistics.median(taken):.1f}"
            rates[name].append(f"{rate} ({median_ratio(clocks[SERVED], taken):.2f})")
    head = ("images a CPU second (times the served)", *(f"batch {size}" for size in sizes))
    columns = ("s to prepare", "a probability moves by", "same label", "top-1")
    print(format_table((*head, *columns), *((name, *rates[name], *rows[name]) for name in networks)))
    print(f"\n{len(images)} images; n = {rounds} rounds; {describe_machine('torch')}")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="of a VGG")
    parser.add_argument("images", type=Path, nargs="?", help="folder of image files")
    parser.add_argument("--most", type=int, default=1000, help="images of the folder (default: 1000)")
    parser.add_argument("--sizes", default="1,8,32", help="of batches, comma-separated (default: 1,8,32)")
    parser.add_argument("--rounds", type=int, default=9, help="(default: 9)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of deprecation, which the text above has
    sizes = [int(size) for size in arguments.sizes.split(",")]
    report(arguments.checkpoint, arguments.images, arguments.most, sizes, arguments.rounds)


if __name__ == "__main__":
    main()
