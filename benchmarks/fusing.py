"""What fusing layers for inference changes: the logits, the number of weights, resident memory and time.

`python -m benchmarks.fusing CHECKPOINT` compares three states of the network, in float32 and on one thread: as it was
trained, as `models/inference/fuse.py` rewrites it, and with the weights that `models/inference/prepack.py` prepacks, as
a CPU serves it. Memory is measured in a process of its own for each state. It is the resident memory once the network
is loaded and has answered one image, less what importing torch took.
"""

import argparse
import gc
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.lib.cpu_time import measure_cpu_milliseconds, median_ratio
from benchmarks.lib.errors import exit_on_error
from benchmarks.lib.report import describe_machine, format_table
from models.checkpoint import read_checkpoint, restore_model
from models.golden import golden_pixels
from models.inference.fuse import fuse
from models.inference.prepack import prepack
from models.normalise import normalise

STATES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "trained": lambda network: network,
    "fused": fuse,
    "fused and prepacked": lambda network: prepack(fuse(network)),
}
CONTROL = "fused, again"


def load_network(path: Path, state: str) -> nn.Module:
    """The checkpoint's network in one of the states, in the channels-last memory format."""
    network = restore_model(read_checkpoint(path)).requires_grad_(requires_grad=False)
    return STATES[state](network.to(memory_format=torch.channels_last))


def load_golden_image(path: Path) -> Tensor:
    """The golden sample's image, (1, C, S, S), normalised."""
    metadata = read_checkpoint(path).metadata
    pixels = golden_pixels(metadata.golden.image, metadata.preprocessing)
    return normalise(torch.from_numpy(pixels[None]), metadata.preprocessing)


def read_resident_megabytes() -> float:
    """Resident memory of this process, from /proc."""
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


def print_resident(path: Path, state: str) -> None:
    """Prints the resident memory that the network of a state adds to this process, in MB."""
    before, images = read_resident_megabytes(), load_golden_image(path)
    network = load_network(path, state)
    with torch.inference_mode():
        network(images)
    gc.collect()
    print(read_resident_megabytes() - before)


def measure_resident_in_child(path: Path, state: str) -> float:
    """The resident memory that the network of a state adds to a new process, in MB."""
    command = (sys.executable, "-m", "benchmarks.fusing", str(path), "--resident", state)
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # noqa: S603


def count_weights(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def largest_difference(networks: dict[str, nn.Module], state: str, images: Tensor) -> float:
    """The largest difference of a logit from the trained network's."""
    return float((networks[state](images) - networks["trained"](images)).abs().max())


@torch.inference_mode()
def print_comparison(path: Path, rounds: int, random_images: int) -> None:
    """Prints a table with a row for each state."""
    torch.manual_seed(0)
    golden = load_golden_image(path)
    images = torch.randn(random_images, *golden.shape[1:]).contiguous(memory_format=torch.channels_last)
    networks = {state: load_network(path, state) for state in STATES}
    counts = {state: count_weights(networks[state]) for state in ("trained", "fused")}
    counts["fused and prepacked"] = counts["fused"]
    work = {state: lambda network=network: network(golden) for state, network in networks.items()}
    cpu_ms = measure_cpu_milliseconds({**work, CONTROL: work["fused"]}, rounds)
    head = ("state", "weights", "resident MB", "CPU ms an image", "speed", "golden logits differ by", "random ones by")
    rows = [
        (
            state,
            f"{counts[state]:,}",
            f"{measure_resident_in_child(path, state):.0f}",
            f"{statistics.median(cpu_ms[state]):.2f}",
            f"{median_ratio(cpu_ms['trained'], cpu_ms[state]):.2f}",
            f"{largest_difference(networks, state, golden):.1e}",
            f"{largest_difference(networks, state, images):.1e}",
        )
        for state in STATES
    ]
    largest = float(networks["trained"](images).abs().max())
    print(format_table(head, *rows))
    print(
        f"\ncontrol (fused against itself) {median_ratio(cpu_ms['fused'], cpu_ms[CONTROL]):.2f}, n = {rounds}", end="; "
    )
    print(f"the largest of the {random_images} random images' logits is {largest:.1f}; {describe_machine('torch')}")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--rounds", type=int, default=15, help="of the time measurement (default: 15)")
    parser.add_argument("--images", type=int, default=8, help="random images (default: 8)")
    parser.add_argument("--resident", choices=STATES, help="print what this state alone adds to this process, in MB")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with exit_on_error():
        if arguments.resident:
            print_resident(arguments.checkpoint, arguments.resident)
        else:
            print_comparison(arguments.checkpoint, arguments.rounds, arguments.images)


if __name__ == "__main__":
    main()
