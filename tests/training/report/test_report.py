"""The report of a run: one page that shows all of it, whatever came of the run."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from models.checkpoint import CheckpointMetadata
from models.golden import GoldenSample
from models.networks.registry import Architecture
from models.preprocess import Preprocessing
from tests.fakes.pages import Page
from training.data.dataset import Split
from training.evaluation.calibration import calibrate
from training.evaluation.evaluation import Evaluation, evaluate_predictions
from training.report.report import PICTURES, write_report

LABELS = ("cat", "dog", "eel", "fox")
SECTIONS = [
    *("In short", "Training", "Confusion", "Reliability", "Prediction sets", "The worst mistakes", "Labels"),
    *("Recipe", "Data", "Environment"),
]
NO_CALIBRATION = "There is no calibration"


def description(labels: tuple[str, ...] = LABELS, epochs: int = 3, **changes: Any) -> CheckpointMetadata:
    epoch = {"train_loss": 2.0, "val_loss": 1.5, "train_accuracy": 0.25, "val_accuracy": 0.5, "rate": 0.1}
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


def answers(classes: int = 4, count: int = 300, sureness: float = 2.0, seed: int = 0) -> tuple[Split, Tensor]:
    """Images of random colours, and overconfident logits, the better the larger `sureness` is."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=generator)
    colours = torch.randint(256, (count, 1, 1, 3), dtype=torch.uint8, generator=generator)
    logits = 5 * (torch.randn(count, classes, generator=generator) + sureness * torch.eye(classes)[labels])
    return Split(colours.expand(count, 32, 32, 3), labels), logits


def calibrated(classes: int = 4, **changes: Any) -> dict[str, Any]:
    """A description's temperature and calibration, made from other answers of the same kind."""
    split, logits = answers(classes, seed=1, **changes)
    temperature, calibration = calibrate(logits, split.labels)
    return {"temperature": temperature, "calibration": calibration}


@dataclass(frozen=True)
class Report:
    folder: Path
    page: Page


def report(folder: Path, metadata: CheckpointMetadata, split: Split, logits: Tensor) -> Report:
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
    return report(folder, description(**calibrated()), *answers())


def test_a_page_says_all_of_it_in_order(usual: Report) -> None:
    """Every section is there, with network, data and version on top."""
    assert usual.page.inside("h2") == SECTIONS
    assert usual.page.inside("h1") == ["vgg11_bn trained on <pets>"]
    assert usual.page.inside("p")[0].startswith("Version 0123456789ab, made 20")


def test_a_page_needs_no_other_file(usual: Report) -> None:
    """Its only links are its pictures, which are in it, and lie beside it too; each has a text."""
    tags = {tag for tag, _ in usual.page.tags}
    assert not tags & {"script", "link", "iframe", "object", "a", "base", "form"}
    images = usual.page.attributes("img")
    assert sorted(pngs(usual.folder)) == sorted(PICTURES)
    for name, image in zip(PICTURES, images, strict=True):
        png = (usual.folder / f"{name}.png").read_bytes()
        assert image["src"] == "data:image/png;base64," + base64.b64encode(png).decode()
        assert len(image["alt"] or "") > 40
    assert "url(" not in usual.page.inside("style")[0]


def test_the_headline_has_the_figures(usual: Report) -> None:
    """Accuracy with its interval, and what the calibration did to the probabilities."""
    split, logits = answers()
    right = int((logits.argmax(1) == split.labels).sum())
    values, notes = usual.page.inside("dd"), usual.page.inside("small")
    assert usual.page.inside("dt")[0] == "Test accuracy"
    assert values[0] == f"{right / 300:.2%}"
    assert notes[0].startswith(f"{right} of 300; 95% interval ")
    nll = torch.nn.functional.cross_entropy(logits.double(), split.labels)
    assert values[2].startswith(f"{nll:.4f} → ")
    assert float(values[2].split()[-1]) < float(nll)
    assert values[5].endswith(" labels")


def test_tables_have_a_row_for_each_coverage_and_label(usual: Report) -> None:
    """What was asked for and what was kept, and how each label fares; nothing else than numbers in them."""
    rows = {row[0]: row[1:] for row in usual.page.rows}
    for coverage in (80, 90, 95, 99):
        kept = float(rows[f"{coverage}%"][0].rstrip("%"))
        assert coverage - 6 < kept <= 100
    split, _ = answers()
    images = [int(rows[label][0]) for label in LABELS]
    assert images == torch.bincount(split.labels).tolist()
    assert "nan" not in " ".join(cell for row in usual.page.rows for cell in row)


def test_recipe_data_and_machine_are_listed(usual: Report) -> None:
    """Whatever the description holds, parts in parts."""
    rows = [row for row in usual.page.rows if len(row) == 2]
    for row in (["flip", "none"], ["name", "folder:/data/<pets>"], ["fingerprint", "0f" * 32]):
        assert row in rows
    assert {"python", "torch", "platform", "processors", "CUDA devices"} <= {name for name, _ in rows}


def test_the_worst_mistakes_are_shown(usual: Report) -> None:
    """The surest wrong answers come as pictures and in a table, the surest first."""
    header = ["right label", "given label", "probability", "image of the split"]
    start = usual.page.rows.index(header) + 1
    found = usual.page.rows[start : start + 25]
    split, logits = answers()
    given = logits.argmax(1)
    probabilities = [float(row[2].rstrip("%")) for row in found]
    assert probabilities == sorted(probabilities, reverse=True)
    with Image.open(usual.folder / "mistakes.png") as opened:
        colours = {colour for _, colour in opened.convert("RGB").getcolors(maxcolors=2**24) or []}
    for right, wrong, _, number in found:
        image = int(number)
        assert (LABELS.index(right), LABELS.index(wrong)) == (int(split.labels[image]), int(given[image]))
        assert right != wrong
        assert tuple(split.images[image, 0, 0].tolist()) in colours


def test_the_model_card_lies_beside_it(usual: Report) -> None:
    """It names the checkpoint beside the folder."""
    card = (usual.folder / "README.md").read_text("utf-8")
    assert card.startswith("---\n")
    assert "vgg-serve --checkpoint ../pets.safetensors\n" in card


def test_without_calibration_it_says_so(tmp_path: Path) -> None:
    """One reliability diagram, and a sentence for the prediction sets; what an older report had goes."""
    for name in PICTURES:
        (tmp_path / f"{name}.png").write_bytes(b"old")
    (tmp_path / "mine.png").write_bytes(b"mine")
    found = report(tmp_path, description(epochs=1), *answers())
    assert pngs(tmp_path) == ["confusion", "curves", "mine", "mistakes", "reliability"]
    assert len(found.page.attributes("img")) == 4
    assert sum(NO_CALIBRATION in text for text in found.page.inside("p")) == 2
    assert "before → after calibration" not in found.page.inside("small")
    with Image.open(tmp_path / "reliability.png") as image:
        assert image.width == 960


def test_two_labels_without_a_mistake(tmp_path: Path) -> None:
    """Sentences stand where there is nothing to show, and no figure warns."""
    split, logits = answers(2, sureness=50.0)
    labels = ("<script>alert(1)</script>", "$\\frac 猫\n\ud800")
    found = report(tmp_path, description(labels, **calibrated(2, sureness=50.0)), split, logits)
    assert pngs(tmp_path) == ["coverage", "curves", "reliability"]
    assert found.page.inside("p").count("No image was given a wrong label.") == 2
    assert found.page.inside("dd")[0] == "100.00%"
    assert found.page.rows[-1]
    names = [row[0] for row in found.page.rows]
    assert labels[0] in names
    assert labels[1].replace("\ud800", r"\ud800") in names


def test_of_many_labels_the_most_confused_are_listed(tmp_path: Path) -> None:
    """A thousand labels get a table in place of a matrix, and a row each, with dashes for those without images."""
    labels = tuple(f"label {i:03}" for i in range(1000))
    split, logits = answers(1000, count=60, sureness=3.0)
    found = report(tmp_path, description(labels, **calibrated(1000, count=60, sureness=3.0)), split, logits)
    assert pngs(tmp_path) == ["coverage", "curves", "mistakes", "reliability"]
    pairs = found.page.rows[
        found.page.rows.index(["right label", "given label", "images", "share of the right label's"]) + 1
    ]
    assert pairs[0] != pairs[1]
    assert int(pairs[2]) >= 1
    start = found.page.rows.index(["label", "images", "precision", "recall", "F1"]) + 1
    rows = found.page.rows[start : start + 1000]
    assert [row[0] for row in rows] == list(labels)
    assert sum(row[3] == "–" for row in rows) == 1000 - len(set(split.labels.tolist()))  # noqa: RUF001


def test_figures_of_val_are_called_so(tmp_path: Path) -> None:
    """Without a test split the page says that the figures are of another."""
    found = report(tmp_path, description(metrics={"val": {}}), *answers(count=30))
    assert found.page.inside("dt")[0] == "Val accuracy"
    assert any("There is no test split" in text for text in found.page.inside("p"))


def test_a_folder_that_cannot_be_made_is_an_error_of_the_system(tmp_path: Path) -> None:
    """A file in its place is an OSError, which the command can tell of in a line."""
    (tmp_path / "pets").touch()
    metadata = description(epochs=1)
    evaluation = evaluate(metadata, *answers(count=30, sureness=50.0))
    with pytest.raises(OSError, match="pets"):
        write_report(tmp_path / "pets", metadata, "abc", evaluation)
