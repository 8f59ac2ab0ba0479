"""What the Open Inference Protocol's models have answered, in the terms of Triton's statistics extension.

Owns the counts and their form. Each version of a model has its own.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.protocols.oip_models import ModelInfo

if TYPE_CHECKING:
    from app.serving.entry import TimedPrediction

NEVER = {"count": 0, "ns": 0}  # there is no response cache
NANOSECONDS = 1e9


@dataclass(slots=True)
class _Duration:
    """How often something was done, and for how long. A batch that two requests share counts half for each."""

    count: float = 0.0
    seconds: float = 0.0

    def add(self, seconds: float, count: float = 1.0) -> None:
        self.count += count
        self.seconds += seconds

    def fields(self) -> dict[str, int]:
        """$duration_stat."""
        return {"count": round(self.count), "ns": round(NANOSECONDS * self.seconds)}


@dataclass(slots=True)
class _Counts:
    """Of one model in one version."""

    images: int = 0
    last_inference_ms: int = 0
    success: _Duration = field(default_factory=_Duration)
    fail: _Duration = field(default_factory=_Duration)
    queue: _Duration = field(default_factory=_Duration)
    compute_input: _Duration = field(default_factory=_Duration)
    compute_infer: _Duration = field(default_factory=_Duration)
    compute_output: _Duration = field(default_factory=_Duration)
    batches: defaultdict[int, _Duration] = field(default_factory=lambda: defaultdict(_Duration))  # by their size


class Statistics:
    """The counts of all models of one service. Used on the event loop alone."""

    def __init__(self) -> None:
        self._counts: defaultdict[tuple[str, str], _Counts] = defaultdict(_Counts)  # by name and version

    def add_success(self, model: ModelInfo, images: "Sequence[TimedPrediction]", seconds: float) -> None:
        """A request was answered, which took `seconds` in all."""
        counts = self._of(model)
        decode, queue, compute = (
            max(getattr(image, name) for image in images)
            for name in ("decode_seconds", "queue_seconds", "model_seconds")
        )
        counts.images += len(images)
        counts.last_inference_ms = round(1000 * time.time())
        counts.success.add(seconds)
        counts.queue.add(queue)
        counts.compute_input.add(decode)
        counts.compute_infer.add(compute)
        counts.compute_output.add(max(0.0, seconds - decode - queue - compute))
        for image in images:
            counts.batches[image.batch_size].add(image.model_seconds / image.batch_size, 1 / image.batch_size)

    def add_failure(self, model: ModelInfo, seconds: float) -> None:
        """A request failed after `seconds`."""
        self._of(model).fail.add(seconds)

    def report(self, model: ModelInfo) -> dict[str, Any]:
        """$model_stat."""
        counts = self._of(model)
        return {
            "name": model.name,
            "version": model.version,
            "last_inference": counts.last_inference_ms,
            "inference_count": counts.images,
            "execution_count": round(sum(batch.count for batch in counts.batches.values())),
            "inference_stats": {
                "success": counts.success.fields(),
                "fail": counts.fail.fields(),
                "queue": counts.queue.fields(),
                "compute_input": counts.compute_input.fields(),
                "compute_infer": counts.compute_infer.fields(),
                "compute_output": counts.compute_output.fields(),
                "cache_hit": NEVER,
                "cache_miss": NEVER,
            },
            "batch_stats": [
                {
                    "batch_size": size,
                    "compute_input": {**batch.fields(), "ns": 0},
                    "compute_infer": batch.fields(),
                    "compute_output": {**batch.fields(), "ns": 0},
                }
                for size, batch in sorted(counts.batches.items())
            ],
        }

    def _of(self, model: ModelInfo) -> _Counts:
        return self._counts[model.name, model.version]
