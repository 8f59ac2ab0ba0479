"""Compares ways to compute the fused network on a CPU: speed, exactness, and time to prepare.

`python -m benchmarks.precision CHECKPOINT [IMAGES]` computes batches of 1, 8 and 32 in each way, in turns, on one
thread. It compares the probabilities with those of the trained network in float32, on the image files of a folder or,
without one, on the golden sample. It also gives top-1 accuracy if the folders have the labels' names. Compiling needs a
C++ compiler and is left out if there is none. int8 uses `torch.ao.quantization`, which needs no other package and which
torch calls deprecated.
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
from torch import Tensor, nn

from benchmarks.lib.cpu_time import measure_cpu_milliseconds, median_ratio
from benchmarks.lib.errors import exit_on_error, read_files_below
from benchmarks.lib.report import describe_machine, format_table
from models.checkpoint import Checkpoint, read_checkpoint, restore_model
from models.golden import golden_pixels
from models.image_files import read_pixels
from models.inference.fuse import fuse
from models.inference.prepack import can_prepack, prepack
from models.networks.vgg import VGG
from models.normalise import normalise
from models.probabilities import softmax

# Makes a function of a fused network. The images are for ways that calibrate on them.
Way = Callable[[nn.Module, Tensor], Callable[[Tensor], Tensor]]


def use_torch(layout: torch.memory_format, dtype: torch.dtype) -> Way:
    """Torch's own layers in a memory format and a precision."""

    def way(network: nn.Module, _: Tensor) -> Callable[[Tensor], Tensor]:
        placed = network.to(dtype).to(memory_format=layout)
        return lambda images: placed(images.contiguous(memory_format=layout))

    return way


def use_prepack(dtype: torch.dtype) -> Way:
    """Prepacked weights, as the server uses them."""
    return lambda network, _: prepack(network.to(dtype).to(memory_format=torch.channels_last))


def use_compile(dtype: torch.dtype) -> Way:
    """torch.compile, with the weights as constants."""
    import torch._inductor.config  # here because it loads the compiler, in seconds

    torch._inductor.config.freezing = True
    return lambda network, _: torch.compile(network.to(dtype).to(memory_format=torch.channels_last), dynamic=False)


def use_onednn_layout(network: nn.Module, _: Tensor) -> Callable[[Tensor], Tensor]:
    """oneDNN's own memory layout from the first layer to the last."""
    from torch.utils.mkldnn import to_mkldnn  # here because other rows do not need it

    layers = to_mkldnn(make_sequential(network))  # type: ignore[no-untyped-call]
    return lambda images: layers(images.contiguous().to_mkldnn()).to_dense()


def use_int8(network: nn.Module, images: Tensor) -> Callable[[Tensor], Tensor]:
    """Static quantisation: ranges of the activations from the images, one scale for each channel of the weights."""
    # Imported here because they load the compiler, in seconds.
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    torch.backends.quantized.engine = "x86"
    observed = prepare_fx(make_sequential(network), get_default_qconfig_mapping("x86"), (images,))
    observed(images)
    return convert_fx(observed)


def make_sequential(network: nn.Module) -> nn.Sequential:
    """A VGG as one sequence of layers."""
    assert isinstance(network, VGG)
    blocks = [layer for block in network.blocks for layer in (*block.children(), nn.MaxPool2d(2))]
    return nn.Sequential(*blocks, *network.head)


def list_ways() -> dict[str, tuple[torch.dtype, Way]]:
    """By name, the precision of each way's images, and the function that makes it of a network."""
    found: dict[str, tuple[torch.dtype, Way]] = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        found[f"{name}, channels first"] = dtype, use_torch(torch.contiguous_format, dtype)
        found[f"{name}, channels last"] = dtype, use_torch(torch.channels_last, dtype)
        if can_prepack(dtype):
            found[f"{name}, prepacked"] = dtype, use_prepack(dtype)
        if shutil.which("c++") or shutil.which("g++"):
            found[f"{name}, compiled"] = dtype, use_compile(dtype)
    return found | {
        "float32, oneDNN's layout": (torch.float32, use_onednn_layout),
        "int8, torch.ao": (torch.float32, use_int8),
    }


def load_images(checkpoint: Checkpoint, folder: Path | None, most: int) -> tuple[Tensor, Tensor]:
    """(N, C, S, S) normalised images, and (N,) labels by their folders' names, -1 for an unknown name."""
    metadata = checkpoint.metadata
    if folder is None:
        batch = golden_pixels(metadata.golden.image, metadata.preprocessing)[None]
        return normalise(torch.from_numpy(batch), metadata.preprocessing), torch.tensor([-1])
    files = read_files_below(folder)
    chosen = files[:: max(1, len(files) // most)][:most]
    chosen = chosen[: len(chosen) // 32 * 32 or None]  # whole batches, as torch.compile compiles for every batch size
    batch = np.stack([read_pixels(file.read_bytes(), metadata.preprocessing).copy() for file in chosen])
    indices = {label: index for index, label in enumerate(metadata.labels)}
    labels = torch.tensor([indices.get(file.parent.name, -1) for file in chosen])
    return normalise(torch.from_numpy(batch), metadata.preprocessing), labels


def compute_probabilities(network: Callable[[Tensor], Tensor], images: Tensor, dtype: torch.dtype) -> Tensor:
    """(N, K) probabilities."""
    return softmax(torch.cat([network(part.to(dtype)).float() for part in torch.split(images, 32)]))


def format_share(hits: Tensor) -> str:
    """The share of True, and their number, so that two rows can be compared by count."""
    return f"{float(hits.float().mean()):.2%} ({int(hits.sum())})"


@torch.inference_mode()
def print_comparison(path: Path, folder: Path | None, most: int, sizes: list[int], rounds: int) -> None:
    """Prints a table with a row for each way."""
    checkpoint = read_checkpoint(path)
    images, labels = load_images(checkpoint, folder, most)
    trained = compute_probabilities(restore_model(checkpoint), images, torch.float32)
    networks, rows = {}, {}
    for name, (dtype, way) in list_ways().items():
        started = time.monotonic()
        network = way(fuse(restore_model(checkpoint)), images[:256])
        batches = [images[torch.arange(size) % len(images)].to(dtype) for size in sizes]
        for batch in batches:
            network(batch)
        seconds = time.monotonic() - started
        found = compute_probabilities(network, images, dtype)
        moved, top = f"{float((found - trained).abs().max()):.1e}", found.argmax(1)
        rows[name] = (f"{seconds:.2f}", moved, format_share(top == trained.argmax(1)), format_share(top == labels))
        networks[name] = (network, batches)
    # The server's way: prepacked, in bfloat16 if the CPU can prepack it.
    served = next((name for name in reversed(networks) if name.endswith("prepacked")), "float32, channels last")
    control = f"{served}, again"
    networks[control], rows[control] = networks[served], rows[served]
    rates: dict[str, list[str]] = {name: [] for name in networks}
    for number, size in enumerate(sizes):
        cpu_ms = measure_cpu_milliseconds(
            {n: partial(f, batches[number]) for n, (f, batches) in networks.items()}, rounds
        )
        for name, taken in cpu_ms.items():
            rate = f"{1000 * size / statistics.median(taken):.1f}"
            rates[name].append(f"{rate} ({median_ratio(cpu_ms[served], taken):.2f})")
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
    warnings.simplefilter("ignore")  # torch.ao.quantization warns that it is deprecated
    sizes = [int(size) for size in arguments.sizes.split(",")]
    with exit_on_error():
        print_comparison(arguments.checkpoint, arguments.images, arguments.most, sizes, arguments.rounds)


if __name__ == "__main__":
    main()
