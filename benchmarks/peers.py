"""Compares vggserve with three other servers on the same checkpoint and the same images.

`python -m benchmarks.peers CHECKPOINT IMAGES --out benchmarks/results/peers-32.md`

vggserve runs with its default settings, a second time as the control, and in float32, the precision of the peers. The
peers are a plain FastAPI endpoint on the event loop, one in FastAPI's thread pool (`benchmarks/lib/peer_servers.py`),
and LitServe with batching (`benchmarks/lib/peer_litserve.py`), whose environment is made at the first run. Every server
gets the same requests, byte for byte: a form with one file. Every answer's label is compared with that of the trained
network, computed here in float32 without fusing.
"""

import hashlib
import os
import random
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from shutil import rmtree

from benchmarks.lib.compared_server import HEAD, LOAD, ComparedServer, LabelCheck
from benchmarks.lib.loops import read_images_or_exit
from benchmarks.lib.multipart import make_form
from benchmarks.lib.peer_servers import PeerNetwork
from benchmarks.lib.report import describe_machine, format_spread, median, run_and_report
from benchmarks.lib.rounds import compute_rate_ratios, make_comparison_parser, rotate
from models.checkpoint import read_checkpoint

LITSERVE = "litserve==0.2.19"
IMAGES = 48  # at most, at even distances through the folder


def make_litserve_environment() -> Path:
    """The Python of an environment with LitServe on top of this one's packages, made at the first call.

    All servers thus use the same build of torch. Raises OSError and subprocess.CalledProcessError.
    """
    here = sysconfig.get_path("purelib")
    key = hashlib.sha256(f"{here} {LITSERVE}".encode()).hexdigest()[:12]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vggserve" / f"litserve-{key}"
    python, ready = folder / "bin" / "python", folder / ".ready"
    if not ready.exists():
        print(f"installing {LITSERVE} in {folder}", file=sys.stderr)
        rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
        (packages / "beneath.pth").write_text(here + "\n")
        subprocess.run([python, "-m", "pip", "install", "--quiet", LITSERVE], check=True, stdout=sys.stderr)  # noqa: S603
        ready.touch()
    return python


def list_servers(checkpoint: Path, clients: int, labels: dict[bytes, str]) -> list[ComparedServer]:
    """Every server, none of them started. The first three are ours."""
    ours = (sys.executable, "-m", "app", "--checkpoint", str(checkpoint), "--port", "0", "--drain-delay", "0")
    peer = (sys.executable, "-m", "benchmarks.lib.peer_servers")
    python, fault = Path(sys.executable), ""
    try:
        python = make_litserve_environment()
    except (OSError, subprocess.CalledProcessError) as error:
        fault = str(error)
    lit = (str(python), "-m", "benchmarks.lib.peer_litserve", str(checkpoint), str(clients))
    return [
        ComparedServer("ours", ours, LabelCheck(labels), ours=True),
        ComparedServer("ours again, the control", ours, LabelCheck(labels), ours=True),
        ComparedServer("ours in float32", (*ours, "--dtype", "float32"), LabelCheck(labels), ours=True),
        ComparedServer("FastAPI, on the event loop", (*peer, "async", str(checkpoint)), LabelCheck(labels)),
        ComparedServer("FastAPI, thread pool", (*peer, "threads", str(checkpoint)), LabelCheck(labels)),
        ComparedServer(f"LitServe, batches of {clients}", lit, LabelCheck(labels), fault=fault),
    ]


async def compare_servers(
    checkpoint: Path, images: Sequence[bytes], rounds: int, seconds: float, clients: int, command: str
) -> str:
    """The report. Raises CheckpointError, and RuntimeError if ours does not start."""
    architecture = read_checkpoint(checkpoint).metadata.architecture
    print(f"asking the network itself for {len(images)} images", file=sys.stderr)
    network = PeerNetwork(checkpoint, "cpu")
    labels = {make_form([image]): str(network.classify([image])[0]["label"]) for image in images}
    del network
    forms, rows = list(labels), list_servers(checkpoint, clients, labels)
    async with AsyncExitStack() as stack:
        for row in rows:
            await row.start(stack, forms, clients)
            if row.ours and row.fault:
                raise RuntimeError(f"{row.name} could not be started: {row.fault}")
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
            shuffled = random.Random(number).sample(forms, len(forms))
            for row in rotate(rows, number):
                await row.measure_round(shuffled, clients, seconds, number)
    ours, control, float32 = (row.closed for row in rows[:3])
    client_cpu = median([turn.client_cpu_seconds for row in rows for turn in row.closed])
    a = architecture
    return "\n".join(
        (
            f"# Side by side at {a.input_size} x {a.input_size}\n",
            f"- Model: {a.name}, width {a.width:g}, head {a.head}, {a.num_classes} labels",
            f"- Images: {len(forms)}, to which it gives {len(set(labels.values()))} different labels",
            f"- Machine: {describe_machine('torch', 'pillow', 'fastapi', 'uvicorn')}, {LITSERVE.replace('==', ' ')}",
            f"- Command: `{command}`\n",
            HEAD,
            f"|{' --- |' * (HEAD.count('|') - 1)}",
            *(row.format_row(ours, float32) for row in rows),
            f"\nControl, ours again / ours: {format_spread(compute_rate_ratios(control, ours))}. "
            "The ratios are meaningful if this is near 1.\n",
            f"Interleaved rounds, {rounds} of them: each server has a closed loop of {clients} keep-alive clients for "
            f"{seconds:g} s, then Poisson arrivals at {LOAD:.0%} of its own throughput for {seconds:g} s, while the "
            "others are stopped. Medians over rounds; ratios within a round; percentiles over all n requests. CPU time "
            "is user and system time of all processes of the server. The clients' own, on the same cores, is "
            f"{1000 * client_cpu:.2f} ms an image.",
        )
    )


def main() -> None:
    """Prints the report; its progress goes to stderr."""
    parser = make_comparison_parser(__doc__, IMAGES, "loop", 5.0)
    parser.add_argument("--clients", type=int, default=8, help="of the closed loop, and LitServe's batch (default: 8)")
    a = parser.parse_args()
    images = read_images_or_exit(a.images, IMAGES)
    if a.rounds < 1 or a.clients < 1 or a.seconds <= 0:
        sys.exit(f"error: rounds {a.rounds}, clients {a.clients} and seconds {a.seconds:g} must be positive")
    options = f"--rounds {a.rounds} --seconds {a.seconds:g} --clients {a.clients}"
    command = f"python -m benchmarks.peers {a.checkpoint.name} {a.images.name} {options}"
    run_and_report(compare_servers(a.checkpoint, images, a.rounds, a.seconds, a.clients, command), a.out)


if __name__ == "__main__":
    main()
