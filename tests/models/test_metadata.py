"""Metadata of a checkpoint: whatever a file says, it is refused in one line or can be served."""

import base64
import copy
import functools
import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import safetensors.torch
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from app.http.schemas import model_info_fields, prediction_fields, to_json
from app.serving.pipeline import Classification
from models.checkpoint import CheckpointError, parse_checkpoint
from models.decisions import DecisionTable
from models.files import FileContents
from models.golden import record_golden_sample
from models.metadata import CheckpointMetadata, metadata_to_json
from models.networks.registry import Architecture, build_network
from models.predictions import make_predictions
from models.preprocess import Preprocessing
from models.probabilities import Calibration, ClassTables, prediction_sets
from tests.fakes.images import random_image

LABELS = ("cat", "dog", "eel")
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from(
        [2**53, 2**63, 2**64, -1, 0, 1e308, 1e-308, float("nan"), float("inf"), "", "\ud800", "\0", [], {}]
    ),
    st.floats(),
    st.text(st.characters(codec=None), max_size=8),
    st.recursive(
        st.floats(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
    ),
)


@functools.cache
def sound_document() -> dict[str, Any]:
    torch.manual_seed(0)
    architecture = Architecture("vgg11", len(LABELS), input_size=32, head="pooled", width=1 / 64)
    preprocessing = Preprocessing(32, 32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    metadata = CheckpointMetadata(
        architecture=architecture,
        labels=LABELS,
        preprocessing=preprocessing,
        golden=record_golden_sample(build_network(architecture), preprocessing, random_image()),
        calibration=Calibration(
            kind="lac",
            images=3,
            scores=(0.1, 0.2, 0.3),
            energies=(-1.0, 0.0, 1.0),
            decisions=DecisionTable(confidence=0.9, levels=(0.1, 0.2), thresholds=(0.9, 0.5), accepted=(0.2, 0.4)),
            by_class=ClassTables(images=(2, 1, 0), scores=((0.1, 0.2), (0.3,), ())),
        ),
        metrics={"val": {"accuracy": 0.5, "images": 3}},
        history=({"epoch": 1, "loss": 0.5},),
        dataset={"name": "toy", "splits": {"train": 5}},
        recipe={"epochs": 2, "flip": "none"},
        seed=7,
    )
    document: dict[str, Any] = json.loads(metadata_to_json(metadata))
    return document


def places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The keys that lead to each value inside a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in inner for found in [(*place, key), *places(item, (*place, key))]]


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """The sound document after one to three changes: a value replaced, removed or added."""
    document = copy.deepcopy(sound_document())
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from(places(document)))
        inside = functools.reduce(lambda value, key: value[key], path, document)
        change = draw(st.sampled_from(["replace", "remove", "add"]))
        if change == "remove":
            del inside[last]
        elif change == "add" and isinstance(inside, dict):
            inside[draw(st.text(st.characters(codec=None), max_size=8))] = draw(ODD)
        else:
            inside[last] = draw(ODD)
    return document


def file_with(document: Any) -> FileContents:
    """A file without weights, whose hash is right, and whose metadata are the document."""
    text = json.dumps(document)
    data = safetensors.torch.save({}, {"classifier": text, "sha256": hashlib.sha256(text.encode()).hexdigest()})
    return FileContents(data, hashlib.sha256(data).hexdigest())


def serve(metadata: CheckpointMetadata) -> list[Any]:
    """The documents of /model and /predict, written and read again."""
    classifier = SimpleNamespace(name="cpu", dtype=torch.float32, max_batch_size=1)
    model: Any = SimpleNamespace(metadata=metadata, version="0" * 12, classifiers=[classifier])
    logits = torch.tensor([[1e4, -3.0, 0.0, *[0.5] * len(metadata.labels)][: len(metadata.labels)]])
    [prediction] = make_predictions(logits, metadata.temperature, metadata.calibration)
    calibration = metadata.calibration
    probabilities = torch.from_numpy(prediction.probabilities[None])
    chosen = prediction_sets(probabilities, calibration, 0.9)[0] if calibration else None
    timed: Any = SimpleNamespace(prediction=prediction)
    threshold = calibration.decisions.find_threshold(0.15) if calibration and calibration.decisions else None
    fields = prediction_fields(Classification(timed, chosen), metadata.labels, 2, 0.9, None, threshold)
    settings: Any = SimpleNamespace(limits=dict)
    return [orjson.loads(to_json(document)) for document in (model_info_fields(model, settings), fields)]


def has_nulls(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(has_nulls, value.values() if isinstance(value, dict) else value))
    return value is None


def test_a_sound_document_is_served() -> None:
    """The document that the others are made from is itself whole, and its answers have no null."""
    found = parse_checkpoint(Path("toy.safetensors"), file_with(sound_document()))
    model, item = serve(found.metadata)
    assert not has_nulls(model["metrics"])
    assert item["label"] == "cat"
    assert item["decision"] == {"max_error": 0.15, "accepted": True}
    assert base64.b64decode(sound_document()["golden"]["image"]) == found.metadata.golden.image


@settings(max_examples=200, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(mutated())
def test_any_document_is_refused_in_one_line_or_served(document: dict[str, Any]) -> None:
    """Whatever a document holds, reading gives a CheckpointError of one line, or metadata that can be answered with."""
    try:
        found = parse_checkpoint(Path("toy.safetensors"), file_with(document))
    except CheckpointError as error:
        line = str(error)
        assert line.startswith("toy.safetensors: ")
        assert "\n" not in line
        assert len(line) < 1000
        line.encode()
        return
    model, item = serve(found.metadata)
    assert not has_nulls([model["metrics"], model["labels"], model["preprocessing"], model["temperature"]])
    assert not has_nulls([item["probabilities"], item["top"]])


def test_a_calibration_from_before_there_were_decisions_is_read() -> None:
    """Without the field the checkpoint serves as before, and it has neither decisions nor tables by class."""
    document = copy.deepcopy(sound_document())
    del document["calibration"]["decisions"]
    del document["calibration"]["by_class"]
    found = parse_checkpoint(Path("toy.safetensors"), file_with(document))
    assert found.metadata.calibration is not None
    assert (found.metadata.calibration.decisions, found.metadata.calibration.by_class) == (None, None)
    model, item = serve(found.metadata)
    assert (model["calibration"]["decisions"], "decision" in item) == (None, False)
