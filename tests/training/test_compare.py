"""Runs side by side: the order of turns, the table, and what the command writes."""

import json
from pathlib import Path
from typing import Any

import pytest

from training.__main__ import main as train
from training.compare import comparison_table, main
from training.loop import Record

QUICK = ["--data", "digits", "--width", "0.125", "--batch-size", "256"]


def history(*accuracies: float, seconds: float) -> list[Record]:
    return [
        {"epoch": i, "train_accuracy": a + 0.1, "val_accuracy": a, "seconds": seconds}
        for i, a in enumerate(accuracies, start=1)
    ]


def test_the_table_has_the_way_to_what_all_reach() -> None:
    """The common accuracy is the best of the worst run; epochs and minutes are counted to its first sight."""
    histories = {"slow": history(0.2, 0.5, 0.4, seconds=60), "quick": history(0.4, 0.7, seconds=30)}
    head, _, slow, quick = comparison_table(histories, {"slow": 0.45, "quick": 0.65}, images=1000).splitlines()
    assert "epochs to 50.0%" in head
    assert slow == "| slow | 3 | 0.500 | 0.400 | 0.450 | 60.00 | 3.0 | 2 | 2.0 |"
    assert quick == "| quick | 2 | 0.800 | 0.700 | 0.650 | 30.00 | 1.0 | 2 | 1.0 |"


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder of a small comparison, and the runs' names in the order in which their epochs came."""
    folder, order = tmp_path_factory.mktemp("compare"), []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("training.progress.Display.epoch", lambda _, record, name: order.append(name))
        runs = "baseline/vgg11_bn/3,fast/vgg11_bn/1,fast/vgg11/2"
        assert main([*QUICK, "--lr", "0.01", "--runs", runs, "--out", str(folder)]) == 0
    return folder, order


def test_runs_take_turns(compared: tuple[Path, list[str]]) -> None:
    """The next epoch is always that of the run which is furthest from its end."""
    _, order = compared
    assert order == [
        "baseline/vgg11_bn/3",
        "fast/vgg11_bn/1",
        "fast/vgg11/2",
        "baseline/vgg11_bn/3",
        "fast/vgg11/2",
        "baseline/vgg11_bn/3",
    ]


def test_table_plot_and_log_are_written(compared: tuple[Path, list[str]]) -> None:
    """Markdown for people, a PNG, and every epoch of every run with its recipe as JSON."""
    folder, _ = compared
    rows = (folder / "compare.md").read_text().splitlines()
    assert [row.split("|")[1].strip() for row in rows[2:]] == ["baseline/vgg11_bn/3", "fast/vgg11_bn/1", "fast/vgg11/2"]
    assert (folder / "compare.png").read_bytes().startswith(b"\x89PNG")
    log: dict[str, Any] = json.loads((folder / "compare.json").read_text())
    assert [len(run["history"]) for run in log.values()] == [3, 1, 2]
    assert log["baseline/vgg11_bn/3"]["recipe"]["head"] == "linear"


@pytest.mark.parametrize(
    ("runs", "words"),
    [("vgg17", ["vgg17"]), ("baseline/vgg16/many", ["baseline/vgg16/many", "EPOCHS"]), ("slow/vgg16", ["slow"])],
)
def test_a_run_that_does_not_exist_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], runs: str, words: list[str]
) -> None:
    """One line, and status 2, before anything is trained."""
    assert main([*QUICK, "--runs", runs, "--out", str(tmp_path)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert all(word in line for word in words), line


def test_runs_start_from_given_weights(tmp_path: Path) -> None:
    """--init gives a run its network's weights and its normalisation."""
    first = tmp_path / "first.safetensors"
    assert train([*QUICK, "--epochs", "1", "--out", str(first)]) == 0
    frozen = ["--init", str(first), "--freeze", "features", "--runs", "fast/vgg11_bn/1", "--out", str(tmp_path / "out")]
    assert main([*QUICK, *frozen]) == 0
    log = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert log["fast/vgg11_bn/1"]["recipe"]["init"] == str(first)
