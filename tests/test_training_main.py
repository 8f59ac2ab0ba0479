"""The training command: what it writes, and its words for what goes wrong."""

import sys
from pathlib import Path

import pytest
from test_imports import loaded_by

from models.checkpoint import read
from training.__main__ import main
from training.config import settings

QUICK = ["--epochs", "1", "--width", "0.125", "--batch-size", "256"]


def test_a_run_writes_a_checkpoint_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last line names the file, its version and what was reached."""
    out = tmp_path / "new" / "digits.safetensors"
    assert main(["--data", "digits", "--out", str(out), *QUICK]) == 0
    checkpoint = read(out)
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith(f"wrote {out}: version {checkpoint.version}, ")
    assert checkpoint.description.recipe["batch_size"] == 256


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "mnist"], ["mnist", "digits"]),
        (["--data", "digits", "--epochs", "0"], ["epochs", "0"]),
        (["--data", "digits", "--epochs", "many"], ["many"]),
        (["--data", "digits", "--device", "tpu"], ["tpu", "cpu"]),
        (["--data", "digits", "--colour", "red"], ["--colour"]),
        ([], ["--data"]),
    ],
)
def test_wrong_arguments_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    """A wrong argument ends with status 2 and one line that names it."""
    assert main([*arguments, "--out", str(tmp_path / "a.safetensors")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert all(word in line for word in words), line


def test_a_place_that_cannot_be_written_is_found_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An output that is a folder, or lies below a file, is refused before anything is trained."""
    (tmp_path / "file").write_text("x")
    for out in (tmp_path, tmp_path / "file" / "a.safetensors"):
        assert main(["--data", "digits", "--out", str(out)]) == 2
        assert str(out) in capsys.readouterr().err


def test_data_that_cannot_be_trained_on_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A fault of the data ends with status 1 and one line."""
    assert main(["--data", f"folder:{tmp_path}", "--out", str(tmp_path / "a.safetensors")]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "no class folders" in line


def test_the_held_out_folder_must_be_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Images of an earlier run might be ones that this run trains on."""
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / "old.png").write_bytes(b"x")
    arguments = [
        "--data",
        "digits",
        "--out",
        str(tmp_path / "a.safetensors"),
        "--save-held-out",
        str(tmp_path / "held"),
    ]
    assert main(arguments) == 2
    assert "not empty" in capsys.readouterr().err


def test_an_interruption_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends with status 130 and says that nothing was written."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.loop.train", interrupted)
    assert main(["--data", "digits", "--out", str(tmp_path / "a.safetensors"), *QUICK]) == 130
    assert "no checkpoint was written" in capsys.readouterr().err
    assert not (tmp_path / "a.safetensors").exists()


def test_help_has_every_setting_and_each_default(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flags come from the recipe's fields, with what is allowed, the default, and a data set's own."""
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    assert all("--" + setting.name.replace("_", "-") in text for setting in settings())
    assert "passes over the training images [from 1 to 10000; 20, digits 40]" in text


def test_a_missing_extra_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server can be installed without what training needs: then one line says what to install."""
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert main(["--data", "digits", "--out", str(tmp_path / "a.safetensors")]) == 1
    assert "pip install 'vggserve[train]'" in capsys.readouterr().err


def test_help_does_without_torch() -> None:
    """Importing torch takes seconds, and the flags do not need it."""
    assert "torch" not in loaded_by("import training.__main__")
