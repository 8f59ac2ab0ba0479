"""Model cards: what the Hub and people read of a checkpoint, whatever its names are made of."""

import json
from itertools import pairwise
from typing import Any

import pytest
from huggingface_hub import ModelCard
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from models.export.model_card import model_card
from models.golden import GoldenSample
from models.metadata import CheckpointMetadata
from models.networks.registry import Architecture
from models.preprocess import Preprocessing
from models.probabilities import Calibration

METRICS = {
    "val": {"accuracy": 0.94161, "images": 360.0},
    "test": {"accuracy": 0.9, "ece": 0.00004},
}
CALIBRATION = Calibration(kind="lac", images=2, scores=(0.1, 0.2), energies=(-1.0, 0.0))
WICKED = (
    *("---\n", "```\n# no", "a|b", "<!-- ", '"', "\\", "{{", "$x$", "yes"),
    *("猫 🐈", "\x85\u2028\ufeff\x00\x7f"),
)


def metadata(labels: tuple[str, ...] = ("cat", "dog"), **changes: Any) -> CheckpointMetadata:
    fields: dict[str, Any] = {
        "architecture": Architecture("vgg11_bn", len(labels), input_size=32),
        "labels": labels,
        "preprocessing": Preprocessing(32, 36, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), interpolation="bicubic"),
        "golden": GoldenSample(b"", (0.0,) * len(labels)),
    }
    return CheckpointMetadata(**(fields | changes))


def parsed(text: str) -> Any:
    """What the Hub's own client reads."""
    return ModelCard(text)


def tokens(text: str) -> list[Token]:
    """What a renderer of Markdown makes of the card's body."""
    return MarkdownIt("commonmark").enable("table").parse(parsed(text).text)


def headings(text: str) -> list[str]:
    found = tokens(text)
    return [after.content for token, after in pairwise(found) if token.type == "heading_open"]


def fenced(text: str, heading: str) -> Any:
    """The JSON that stands below a heading."""
    found = tokens(text)
    start = next(i for i, token in enumerate(found) if token.content == heading)
    return json.loads(next(token.content for token in found[start:] if token.type == "fence"))


def test_what_the_hub_reads() -> None:
    """Licence, library, task and tags are there; without metrics, there is no index of results."""
    assert parsed(model_card(metadata(), "abc")).data.to_dict() == {
        "license": "unknown",
        "library_name": "vggserve",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "vgg"],
    }


def test_metrics_carry_their_split() -> None:
    """Each metric is in the Hub's index with its data set and split; the number of images is not."""
    card = parsed(model_card(metadata(metrics=METRICS, dataset={"name": "folder:/home/me/photos/"}), "abc"))
    results = card.data.eval_results
    assert [(r.dataset_name, r.dataset_split, r.metric_type, r.metric_value) for r in results] == [
        ("photos", "val", "accuracy", 0.9416),
        ("photos", "test", "accuracy", 0.9),
        ("photos", "test", "ece", 0.0),
    ]


def test_metrics_stand_in_a_table() -> None:
    """One row a metric and one column a split, with a gap where a split lacks the metric."""
    cells = [t.content for t in tokens(model_card(metadata(metrics=METRICS), "abc")) if t.type == "inline"]
    start = cells.index("val") - 1
    assert cells[start : start + 12] == [
        *("", "val", "test"),
        *("accuracy", "0.9416", "0.9"),
        *("images", "360", ""),
        *("ece", "", "0"),
    ]


def test_what_was_not_measured_is_said() -> None:
    """Without metrics and calibration the card says so, and with them it does not."""
    bare = model_card(metadata(), "abc")
    assert "None were recorded" in bare
    assert "were not calibrated" in bare
    full = model_card(metadata(metrics=METRICS, calibration=CALIBRATION, temperature=1.25), "abc")
    assert "None were recorded" not in full
    assert "were calibrated on 2 images" in full
    assert "1.25" in full


@pytest.mark.parametrize(
    ("crop", "sentence"),
    [("squash", "is resized to 32 x 32 pixels"), ("pad", "bars of the mean colour make it 32 x 32")],
)
def test_other_crops_are_described(crop: str, sentence: str) -> None:
    """The card says how the whole image becomes a square, and that profiles are to be converted."""
    seen = Preprocessing(32, 32, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), crop=crop, color="srgb")
    text = model_card(metadata(preprocessing=seen), "0123456789ab")
    assert sentence in text
    assert "profile are converted to sRGB" in text
    assert "outside the central square" not in text


def test_people_find_what_it_is() -> None:
    """Architecture, data set, version, preprocessing and the command that serves the file are named."""
    described = metadata(dataset={"name": "cifar10"}, recipe={"epochs": 3})
    text = model_card(described, "0123456789ab", "my file.safetensors")
    assert headings(text)[0] == "vgg11_bn trained on cifar10"
    assert "`0123456789ab`" in text
    assert "resized to 36 pixels (bicubic, antialiased)" in text
    assert "mean 0.1, 0.2, 0.3 and std 0.4, 0.5, 0.6" in text
    assert "An embedded colour profile is ignored." in text
    assert "outside the central square" in text
    assert "pip install" not in text
    assert "python -m app --checkpoint 'my file.safetensors'\n" in text
    assert fenced(text, "Training")["recipe"] == {"epochs": 3}


@pytest.mark.parametrize(
    ("width", "words"), [(1.0, "head `paper`. Version"), (0.25, "`paper` and 0.25 times the usual channels")]
)
def test_an_unusual_width_is_named(width: float, words: str) -> None:
    """A network of the paper's width is not said to have another."""
    assert words in model_card(metadata(architecture=Architecture("vgg11", 2, 3, 32, width=width)), "abc")


@settings(deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=2, max_size=5, unique=True).map(
        tuple
    )
)
@example(WICKED)
def test_no_name_can_break_a_card(names: tuple[str, ...]) -> None:
    """Whatever labels, data set, split and metrics are called, the same sections come out, and the same names."""
    changes = {"metrics": {name: dict.fromkeys(names, 0.5) for name in names}, "recipe": {"note": names[0]}}
    text = model_card(metadata(names, dataset={"name": f"folder:{names[0]}"}, **changes), "abc")
    assert text.encode("utf-8").decode("utf-8") == text
    title, *others = headings(text)
    assert title.startswith("vgg11_bn")
    assert others == ["Metrics", "Use", "Labels", "Limits", "Training"]
    assert fenced(text, "Labels") == {str(i): name for i, name in enumerate(names)}
    assert fenced(text, "Training")["recipe"] == {"note": names[0]}
    results = parsed(text).data.eval_results
    assert [(r.dataset_split, r.metric_type) for r in results] == [
        (a, b) for a in names for b in names if b != "images"
    ]
    assert [token.type for token in tokens(text) if token.type.endswith("list_open")] == ["bullet_list_open"]
    assert sum(token.type == "tr_open" for token in tokens(text)) == 1 + len(names)
