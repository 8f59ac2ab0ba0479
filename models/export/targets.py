"""Exports of a checkpoint for other runtimes. A file gets its name only after it was compared with our network.

Owns the targets and the packages that each needs.
"""

import importlib.util
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models import checkpoint
from models.checkpoint import Checkpoint
from models.export.huggingface import write_hf
from models.export.onnx import write_onnx
from models.export.parity import RunExport, find_differences
from models.export.timm import write_timm


@dataclass(frozen=True, slots=True)
class ExportTarget:
    """`write` makes a file or folder at a path and returns a function that runs it. It needs `packages`.

    The function that `write` returns maps (N, S, S, C) uint8 pixels to (N, K) `logits` and maybe `probabilities`.
    """

    write: Callable[[Checkpoint, Path], RunExport]
    packages: tuple[str, ...] = ()


TARGETS = {
    "onnx": ExportTarget(write_onnx, ("onnx", "onnxscript", "onnxruntime")),
    "timm": ExportTarget(write_timm, ("timm",)),
    "hf": ExportTarget(write_hf),
}


def export_checkpoint(source: Path, target: str, out: Path) -> str:
    """Exports the checkpoint at `source` to `out`, which must not exist. Returns what was written, in words.

    Nothing gets the name `out` unless it gives the checkpoint's answers. Raises OSError, or
    ValueError, naming the file or package and the fault.
    """
    if missing := [name for name in TARGETS[target].packages if importlib.util.find_spec(name) is None]:
        raise ValueError(f"--to {target} needs the package {missing[0]}: pip install -r requirements.lock brings it")
    if out.exists():
        raise ValueError(f"{out}: exists already; remove it or give another name")
    found = checkpoint.read_checkpoint(source)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        made = Path(folder) / out.name
        answer = TARGETS[target].write(found, made)
        agreed = find_differences(found, answer)
        made.replace(out)
    return f"wrote {out}: version {found.version} for {target}; " + ", ".join(agreed)
