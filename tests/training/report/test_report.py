"""The report of a run: one page that shows all results, whatever the run gave."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from models.golden import GoldenSample
from models.metadata import CheckpointMetadata
from models.networks.registry import Architecture
from models.preprocess import Preprocessing
from tests.fakes.pages import Page
from training.data.dataset import Split
from training.evaluation.calibration import calibrate
from training.evaluation.evaluation import Evaluation, evaluate_predictions
from training.report.report import PICTURES, write_report

LABELS = ("cat", "dog", "eel", "fox")
SECTIONS = [
    *("Summary", "Training curves", "Confusion matrix", "Reliability of the probabilities", "Prediction sets"),
    *("Answer or defer", "Most confident mistakes", "Results by label", "Training settings", "Data set", "Environment"),
]
USUAL_PICTURES = PICTURES[:5]  # the data were not examined
NO_CALIBRATION = "There is no calibration"


def make_metadata(labels: tuple[str, ...] = LABELS, epochs: int = 3, **changes: Any) -> CheckpointMetadata:
    epoch = {"train_loss": 2.0, "val_loss": 1.5, "train_accuracy": 0.25, "val_accuracy": 0.5, "lr": 0.1}
    fields: dict[str, Any] = {
        "architecture": Architecture("vgg11_bn", len(labels), input_size=32),
        "labels": labels,
        "preprocessing": Preprocessing(32, 32, (0.5,) * 3, (0.25,) * 3),
        "golden": GoldenSample(b"", (0.0,) * len(labels)),
        "metrics": {"val": {"accuracy": 0.5}, "test": {"accuracy": 0.5}},
        "history": tuple({"epoch": float(i + 1), "seconds": 1.5, **epoch} for i in range(epochs)),
        "dataset": {"name": "folder:/data/<pets>", "splits": {"test": {"images": 300, "fingerprint": "0f" * 32}}},
        "recipe": {"epochs": epochs, "flip": "none", "init": ""},
        "seed": 0,
    }
    return CheckpointMetadata(**(fields | changes))


def make_predictions(
    classes: int = 4, count: int = 300, confidence: float = 2.0, seed: int = 0
) -> tuple[Split, Tensor]:
    """Images of random colours, and overconfident logits. A higher `confidence` gives a higher accuracy."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=generator)
    colours = torch.randint(256, (count, 1, 1, 3), dtype=torch.uint8, generator=generator)
    logits = 5 * (torch.randn(count, classes, generator=generator) + confidence * torch.eye(classes)[labels])
    return Split(colours.expand(count, 32, 32, 3), labels), logits


def make_calibration(classes: int = 4, **changes: Any) -> dict[str, Any]:
    """The metadata's temperature and calibration, from other predictions of the same kind."""
    split, logits = make_predictions(classes, seed=1, **changes)
    temperature, calibration = calibrate(logits, split.labels)
    return {"temperature": temperature, "calibration": calibration}


@dataclass(frozen=True)
class Report:
    folder: Path
    page: Page


def make_report(folder: Path, metadata: CheckpointMetadata, split: Split, logits: Tensor) -> Report:
    path = write_report(folder, metadata, "0123456789ab", evaluate(metadata, split, logits))
    assert path == folder / "report.html"
    return Report(folder, Page(path.read_text("utf-8")))


def evaluate(metadata: CheckpointMetadata, split: Split, logits: Tensor) -> Evaluation:
    name = "test" if "test" in metadata.metrics else "val"
    return evaluate_predictions(name, split, logits, metadata.temperature, metadata.calibration)


def pngs(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.png"))


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of a calibrated run over four labels."""
    folder = tmp_path_factory.mktemp("checkpoints") / "pets"
    return make_report(folder, make_metadata(**make_calibration()), *make_predictions())


def test_the_page_has_all_sections_in_order(usual: Report) -> None:
    """The network, the data set and the version are at the top."""
    assert usual.page.inside("h2") == SECTIONS
    assert usual.page.inside("h1") == ["vgg11_bn trained on <pets>"]
    assert usual.page.inside("p")[0].startswith("Version 0123456789ab, created at 20")


def test_the_page_needs_no_other_file(usual: Report) -> None:
    """The pictures are inside the page, and also beside it as files. Each has a text."""
    tags = {tag for tag, _ in usual.page.tags}
    assert not tags & {"script", "link", "iframe", "object", "a", "base", "form"}
    images = usual.page.attributes("img")
    assert sorted(pngs(usual.folder)) == sorted(USUAL_PICTURES)
    for name, image in zip(USUAL_PICTURES, images, strict=True):
        png = (usual.folder / f"{name}.png").read_bytes()
        assert image["src"] == "data:image/png;base64," + base64.b64encode(png).decode()
        assert len(image["alt"] or "") > 40
    assert "url(" not in usual.page.inside("style")[0]


def test_the_summary_has_the_main_results(usual: Report) -> None:
    """It shows the accuracy with its interval, and the probabilities before and after the calibration."""
    split, logits = make_predictions()
    correct = int((logits.argmax(1) == split.labels).sum())
    values, notes = usual.page.inside("dd"), usual.page.inside("small")
    assert usual.page.inside("dt")[0] == "Test accuracy"
    assert values[0] == f"{correct / 300:.2%}"
    assert notes[0].startswith(f"{correct} of 300 images; 95% interval ")
    nll = torch.nn.functional.cross_entropy(logits.double(), split.labels)
    assert values[2].startswith(f"{nll:.4f} → ")
    assert float(values[2].split()[-1]) < float(nll)
    assert values[5].endswith(" labels")


def test_tables_have_a_row_for_each_coverage_and_label(usual: Report) -> None:
    """They show the requested and empirical coverage, and the results of each label. No cell is NaN."""
    rows = {row[0]: row[1:] for row in usual.page.rows}
    for coverage in (80, 90, 95, 99):
        empirical = float(rows[f"{coverage}%"][0].rstrip("%"))
        assert coverage - 6 < empirical <= 100
    for error in ("0.5%", "1.0%", "2.0%", "5.0%"):
        accepted, share = rows[error][:2]
        assert share == f"{int(accepted) / 300:.1%}"
    split, _ = make_predictions()
    [first] = [i for i, row in enumerate(usual.page.rows) if row[0] == "label of the sets"]
    by_class = usual.page.rows[first + 1 : first + 5]
    assert [row[0] for row in by_class] == list(LABELS)
    assert all(75 < float(row[3].rstrip("%")) <= 100 for row in by_class)
    images = [int(rows[label][0]) for label in LABELS]
    assert images == torch.bincount(split.labels).tolist()
    assert "nan" not in " ".join(cell for row in usual.page.rows for cell in row)


def test_recipe_data_and_machine_are_listed(usual: Report) -> None:
    """All values of the metadata are on the page, nested ones too."""
    rows = [row for row in usual.page.rows if len(row) == 2]
    for row in (["flip", "none"], ["name", "folder:/data/<pets>"], ["fingerprint", "0f" * 32]):
        assert row in rows
    assert {"python", "torch", "platform", "processors", "CUDA devices"} <= {name for name, _ in rows}


def test_the_worst_mistakes_are_shown(usual: Report) -> None:
    """They are on the page as pictures and in a table, the most confident first."""
    header = ["true label", "predicted label", "probability", "image index"]
    start = usual.page.rows.index(header) + 1
    found = usual.page.rows[start : start + 25]
    split, logits = make_predictions()
    predicted = logits.argmax(1)
    probabilities = [float(row[2].rstrip("%")) for row in found]
    assert probabilities == sorted(probabilities, reverse=True)
    with Image.open(usual.folder / "mistakes.png") as opened:
        colours = {colour for _, colour in opened.convert("RGB").getcolors(maxcolors=2**24) or []}
    for true, wrong, _, index in found:
        image = int(index)
        assert (LABELS.index(true), LABELS.index(wrong)) == (int(split.labels[image]), int(predicted[image]))
        assert true != wrong
        assert tuple(split.images[image, 0, 0].tolist()) in colours


def test_the_model_card_is_beside_the_report(usual: Report) -> None:
    """It names the checkpoint beside the folder."""
    card = (usual.folder / "README.md").read_text("utf-8")
    assert card.startswith("---\n")
    assert "python -m app --checkpoint ../pets.safetensors\n" in card


def test_a_report_without_calibration(tmp_path: Path) -> None:
    """It has one reliability diagram, and a sentence in place of the prediction sets. Old pictures are deleted."""
    for name in PICTURES:
        (tmp_path / f"{name}.png").write_bytes(b"old")
    (tmp_path / "mine.png").write_bytes(b"mine")
    found = make_report(tmp_path, make_metadata(epochs=1), *make_predictions())
    assert pngs(tmp_path) == ["confusion", "curves", "mine", "mistakes", "reliability"]
    assert len(found.page.attributes("img")) == 4
    assert sum(NO_CALIBRATION in text for text in found.page.inside("p")) == 3
    assert "before → after calibration" not in found.page.inside("small")
    with Image.open(tmp_path / "reliability.png") as image:
        assert image.width == 960


def test_two_labels_without_a_mistake(tmp_path: Path) -> None:
    """Sections without mistakes have a sentence, no plot warns, and labels are escaped."""
    split, logits = make_predictions(2, confidence=50.0)
    labels = ("<script>alert(1)</script>", "$\\frac 猫\n\u2028")
    found = make_report(tmp_path, make_metadata(labels, **make_calibration(2, confidence=50.0)), split, logits)
    assert pngs(tmp_path) == ["coverage", "curves", "reliability"]
    assert found.page.inside("p").count("There is no mistake: every image got its true label.") == 2
    assert found.page.inside("dd")[0] == "100.00%"
    assert found.page.rows[-1]
    names = [row[0] for row in found.page.rows]
    assert labels[0] in names
    assert labels[1] in names


def test_many_labels_get_a_table_of_the_most_confused(tmp_path: Path) -> None:
    """With a thousand labels a table replaces the matrix. Each label has a row, with dashes if it has no images."""
    labels = tuple(f"label {i:03}" for i in range(1000))
    split, logits = make_predictions(1000, count=60, confidence=3.0)
    found = make_report(
        tmp_path, make_metadata(labels, **make_calibration(1000, count=60, confidence=3.0)), split, logits
    )
    assert pngs(tmp_path) == ["coverage", "curves", "mistakes", "reliability"]
    pairs = found.page.rows[
        found.page.rows.index(["true label", "predicted label", "images", "share of the true label"]) + 1
    ]
    assert pairs[0] != pairs[1]
    assert int(pairs[2]) >= 1
    start = found.page.rows.index(["label", "images", "precision", "recall", "F1"]) + 1
    rows = found.page.rows[start : start + 1000]
    assert [row[0] for row in rows] == list(labels)
    assert sum(row[3] == "–" for row in rows) == 1000 - len(set(split.labels.tolist()))  # noqa: RUF001


def test_results_of_val_are_marked(tmp_path: Path) -> None:
    """Without a test split the page says that the results are those of the validation split."""
    found = make_report(tmp_path, make_metadata(metrics={"val": {}}), *make_predictions(count=30))
    assert found.page.inside("dt")[0] == "Validation accuracy"
    assert any("There is no test split" in text for text in found.page.inside("p"))


def test_a_folder_that_cannot_be_created_is_an_os_error(tmp_path: Path) -> None:
    """The command shows it in one line."""
    (tmp_path / "pets").touch()
    metadata = make_metadata(epochs=1)
    evaluation = evaluate(metadata, *make_predictions(count=30, confidence=50.0))
    with pytest.raises(OSError, match="pets"):
        write_report(tmp_path / "pets", metadata, "abc", evaluation)
