"""ONNX: one file that maps pixels to logits and calibrated probabilities.

The input is a decoder's output, uint8 (N, S, S, C), a quarter of the bytes of floats. The normalisation is a part of
the graph, because a wrong normalisation is the most common error with exported classifiers and is not noticed. Owns the
graph's names and metadata.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.checkpoint import Checkpoint, restore_model
from models.export.parity import RunExport
from models.inference.fuse import fuse
from models.normalise import normalise
from models.preprocess import Pixels

INPUT, OUTPUTS = "pixels", ("logits", "probabilities")
MAX_BYTES = 3 * 2**29  # of weights: a file of protobuf ends at 2 GiB, and torch would split it from here on


class Graph(nn.Module):
    """(N, S, S, C) uint8 pixels -> (N, K) logits and (N, K) probabilities."""

    def __init__(self, found: Checkpoint) -> None:
        super().__init__()
        self.network = fuse(restore_model(found))
        self.metadata = found.metadata

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        # contiguous: torch pools a channels-last map through strides, which ONNX can only imitate
        logits = self.network(normalise(pixels, self.metadata.preprocessing).contiguous())
        return logits, (logits / self.metadata.temperature).softmax(dim=1)


def write_onnx(found: Checkpoint, path: Path) -> RunExport:
    """Writes the fused network to one file, and returns a function that runs it in ONNX Runtime on the CPU.

    Raises ValueError for weights of more than MAX_BYTES.
    """
    # Imported here because they are installed only for exports.
    import onnx_ir.passes.common
    import onnxruntime  # type: ignore[import-untyped]

    graph = Graph(found).eval()
    size = sum(tensor.nbytes for tensor in graph.state_dict().values())
    if size > MAX_BYTES:
        raise ValueError(
            f"{found.path}: has weights of {size / 2**30:.2f} GiB, but an ONNX file holds {MAX_BYTES / 2**30:.2f}"
        )
    p = found.metadata.preprocessing
    program = torch.onnx.export(
        graph,
        (torch.zeros(2, p.size, p.size, p.channels, dtype=torch.uint8),),
        input_names=[INPUT],
        output_names=OUTPUTS,
        dynamic_shapes=({0: torch.export.Dim("N")},),
        verbose=False,
    )
    assert program is not None
    onnx_ir.passes.common.ClearMetadataAndDocStringPass()(program.model)  # stack traces with this machine's paths
    program.model.metadata_props.update(_metadata(found))
    program.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def answer(batch: Pixels) -> dict[str, Any]:
        return dict(zip(OUTPUTS, session.run(OUTPUTS, {INPUT: batch}), strict=True))

    return answer


def _metadata(found: Checkpoint) -> dict[str, str]:
    """What a caller needs beside the graph, each value as JSON."""
    d = found.metadata
    values = {
        "labels": d.labels,
        "preprocessing": dataclasses.asdict(d.preprocessing),
        "temperature": d.temperature,
        "architecture": dataclasses.asdict(d.architecture),
        "version": found.version,
    }
    return {name: json.dumps(value) for name, value in values.items()}
