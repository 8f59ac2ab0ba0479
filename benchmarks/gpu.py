"""Speed of a checkpoint on a device: images a second by batch size, share of the device's peak, and latency of a call.

`python -m benchmarks.gpu CHECKPOINT` takes a minute or two on a GPU; `--device cpu` runs the same code without one.
It measures `Classifier.compute_logits` of the service, from uint8 pixels in the host's memory to logits there. That
includes stacking, both copies, normalising and waiting. `kept` is its speed as a share of the network's own speed on
pixels that are on the device already. The rest is the most that preparing the next batch meanwhile could win. The peak
is that of dense bfloat16 products, from a table or from `--peak`.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from app.serving.classifier import Classifier, load_classifier
from benchmarks.lib.errors import exit_on_error
from benchmarks.lib.report import describe_machine, format_table
from models.checkpoint import read_checkpoint
from models.networks.registry import Architecture, build_network

# Dense TFLOPS in bfloat16 (T4: float16), by a part of the name that torch.cuda.get_device_name gives. The first match
# counts. Variants of a card differ; `--peak` takes the figure from its data sheet.
PEAKS = {
    "B200": 2250,
    "H200": 989,
    "H100 PCIe": 756,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "L40": 181,
    "L4": 121,
    "A10": 125,
    "RTX 4090": 165,
    "RTX 3090": 71,
    "T4": 65,
}


def count_flops(architecture: Architecture) -> int:
    """Floating-point operations on one image of the convolutions and linear layers of the network as it was trained.

    Fusing the head `linear` saves up to 0.8 % of them.
    """
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        size = architecture.input_size
        build_network(architecture).eval()(torch.empty(1, architecture.in_channels, size, size))
    return int(counter.get_total_flops())


def find_peak(device: str) -> float | None:
    """TFLOPS, if the device is in the table."""
    return next((peak for name, peak in PEAKS.items() if name in device), None)


def time_calls(call: Callable[[], object], seconds: float) -> list[float]:
    """Seconds of each call, ascending: at least ten calls, after three that are not counted."""
    for _ in range(3):
        call()
    taken: list[float] = []
    started = time.perf_counter()
    while time.perf_counter() - started < seconds or len(taken) < 10:
        before = time.perf_counter()
        call()
        taken.append(time.perf_counter() - before)
    return sorted(taken)


def measure_batch(
    classifier: Classifier, pixels: Tensor, seconds: float, flops: int, peak: float | None
) -> tuple[str, ...]:
    """One batch size's cells; `pixels` is (N, S, S, C) uint8 on the device."""
    batch = len(pixels)
    taken = time_calls(partial(classifier.run_golden_batch, batch), seconds)
    alone = time_calls(lambda: classifier.forward(pixels).cpu(), seconds / 2)
    kept = f"{statistics.median(alone) / statistics.median(taken):.1%}"
    rate = batch / statistics.median(taken)
    peak_share = f"{rate * flops / peak / 1e12:.1%}" if peak else "-"
    p50, p99 = (f"{1000 * taken[int(share * (len(taken) - 1))]:.2f}" for share in (0.5, 0.99))
    return str(batch), f"{rate:.1f}", kept, f"{rate * flops / 1e12:.2f}", peak_share, p50, p99, str(len(taken))


def main() -> None:
    """Reads the command line and prints one row a batch size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (default: cuda)")
    parser.add_argument("--dtype", default="auto", help="auto, bfloat16, float16 or float32 (default: auto)")
    parser.add_argument("--largest", type=int, default=256, help="batch, of 1, 2, 4, … (default: 256)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each batch size (default: 5)")
    parser.add_argument("--peak", type=float, help="of the device, in TFLOPS; by default from a table")
    arguments = parser.parse_args()
    is_cuda = arguments.device.startswith("cuda")
    if is_cuda and not torch.cuda.is_available():
        sys.exit("error: there is no CUDA device; --device cpu runs the same on the CPU")
    with exit_on_error():
        checkpoint = read_checkpoint(arguments.checkpoint)
        classifier = load_classifier(checkpoint, arguments.device, arguments.dtype)
    name = torch.cuda.get_device_name(arguments.device) if is_cuda else "CPU"
    peak, flops = arguments.peak or find_peak(name), count_flops(checkpoint.metadata.architecture)
    size, channels = checkpoint.metadata.preprocessing.size, checkpoint.metadata.preprocessing.channels
    rows: list[tuple[str, ...]] = [("batch", "images/s", "kept", "TFLOPS", "of the peak", "p50 ms", "p99 ms", "n")]
    with suppress(torch.OutOfMemoryError):  # the sizes before it are worth printing
        for batch in (2**power for power in range(arguments.largest.bit_length())):
            pixels = torch.zeros(batch, size, size, channels, dtype=torch.uint8, device=arguments.device)
            rows.append(measure_batch(classifier, pixels, arguments.seconds, flops, peak))
    print(f"{name}, {classifier.dtype}, peak {peak or 'unknown'} TFLOPS, {flops / 1e9:.2f} GFLOP an image; ", end="")
    print(f"the service's maximum batch size here is {classifier.max_batch_size}")
    print(f"\n{format_table(*rows)}\n\n{describe_machine('torch')}")


if __name__ == "__main__":
    main()
