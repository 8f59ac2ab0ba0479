"""What a checkpoint says beside its weights.

Owns the fields of the metadata, what they may hold, and their form as one JSON document.
"""

import base64
import dataclasses
import json
import math
import platform
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from typing import Annotated, Any

from pydantic import Field

from models.documents import build_from_document, check_values, is_unicode_text, parse_json
from models.golden import GoldenSample
from models.networks.registry import Architecture
from models.preprocess import Preprocessing
from models.probabilities import Calibration

FORMAT = 1
TEMPERATURES = (1e-6, 1e6)  # a calibration stays within 0.01..100; far below, a probability would not be a number
# Counts stay integers. Those beyond 2^53, which not every reader of JSON keeps exact, are read as floats.
Number = Annotated[int, Field(ge=-(2**53), le=2**53)] | float


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    libraries = {name: installed_version(name) for name in ("torch", "pillow", "numpy", "safetensors")}
    return {"python": platform.python_version(), **libraries}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointMetadata:
    """All that a checkpoint says beside its weights.

    `labels` are the classes' names by index, unique. `metrics` maps the split they were measured on
    to names and values. `history` has one record an epoch. `dataset` holds its name, fingerprint and
    split sizes, `recipe` every setting of the training run. `calibration` was made with this `temperature`. It is None
    if there was none. Every number is finite and every text can be encoded as UTF-8.
    Raises ValueError, naming the field, its value and the allowed range.
    """

    architecture: Architecture
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    golden: GoldenSample
    temperature: float = 1.0
    calibration: Calibration | None = None
    metrics: dict[str, dict[str, Number]] = field(default_factory=dict)
    history: tuple[dict[str, Number], ...] = ()
    dataset: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    versions: dict[str, str] = field(default_factory=_versions)
    created_at: str = field(default_factory=_now)

    def __post_init__(self) -> None:
        _check_labels(self.labels, self.architecture.num_classes)
        a, p = self.architecture, self.preprocessing
        if (p.size, p.channels) != (a.input_size, a.in_channels):
            raise ValueError(
                f"preprocessing gives {p.size} pixels and {p.channels} channels, "
                f"but the network takes {a.input_size} and {a.in_channels}"
            )
        if len(self.golden.logits) != a.num_classes:
            raise ValueError(f"golden has {len(self.golden.logits)} logits, but there are {a.num_classes} classes")
        if not all(map(math.isfinite, self.golden.logits)):
            raise ValueError(f"golden has the logits {self.golden.logits}, but must have finite ones")
        try:
            datetime.fromisoformat(self.created_at)
        except ValueError as error:
            raise ValueError(f"created_at is {self.created_at!a}, but must be an ISO 8601 date and time") from error
        if not TEMPERATURES[0] <= self.temperature <= TEMPERATURES[1]:
            raise ValueError(f"temperature is {self.temperature}, but must lie in 1e-6..1e6")
        tables = self.calibration and self.calibration.by_class
        if tables and len(tables.scores) != a.num_classes:
            raise ValueError(f"by_class has {len(tables.scores)} tables, but there are {a.num_classes} classes")
        for name in ("metrics", "history", "dataset", "recipe", "seed", "versions"):
            check_values(getattr(self, name), name)


def metadata_to_json(metadata: CheckpointMetadata) -> str:
    """The metadata as one JSON document."""
    document = {"format": FORMAT, **dataclasses.asdict(metadata)}
    document["golden"]["image"] = base64.b64encode(metadata.golden.image).decode()
    return json.dumps(document, allow_nan=False)


def metadata_from_json(text: str) -> CheckpointMetadata:
    """The metadata that the document holds. Raises ValueError with one line that names the field."""
    document = parse_json(text)
    found = document.pop("format", None) if isinstance(document, dict) else None
    if type(found) is not int or found != FORMAT:
        raise ValueError(f"format is {found!a}, but this version reads format {FORMAT}")
    return build_from_document(document, CheckpointMetadata)


def _check_labels(labels: tuple[str, ...], num_classes: int) -> None:
    if len(labels) != num_classes:
        raise ValueError(f"labels has {len(labels)} names, but the weights have {num_classes} classes")
    if bad := [label for label, count in Counter(labels).items() if count > 1 or not label]:
        raise ValueError(f"labels has {bad[0]!r} {labels.count(bad[0])} times, but must be unique and not empty")
    if bad := [label for label in labels if not is_unicode_text(label)]:
        raise ValueError(f"labels has {bad[0]!r}, but must be Unicode text")
