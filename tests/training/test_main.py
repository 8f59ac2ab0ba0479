"""The training command: what it writes, and its words for what goes wrong."""

import os
import signal
import sys
from pathlib import Path

import pytest
import torch

from models.checkpoint import read_checkpoint
from tests.fakes.folders import fill
from tests.fakes.images import random_image
from tests.fakes.imports import loaded_by
from training.__main__ import main
from training.recipe import recipe_fields

QUICK = ["--epochs", "1", "--width", "0.125", "--batch-size", "256"]


def test_a_run_writes_a_checkpoint_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last line names the file, its version and what was reached."""
    out = tmp_path / "new" / "digits.safetensors"
    assert main(["--data", "digits", "--out", str(out), *QUICK]) == 0
    checkpoint = read_checkpoint(out)
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith(f"wrote {out}: version {checkpoint.version}, ")
    assert checkpoint.metadata.recipe["batch_size"] == 256


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
    (tmp_path / "pets").mkdir()
    assert main(["--data", f"folder:{tmp_path}/pets", "--out", str(tmp_path / "a.safetensors")]) == 1
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
    """Ctrl-C while the images are read ends with status 130 and says that nothing was written."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.setup.load_dataset", interrupted)
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
    assert all("--" + setting.replace("_", "-") in text for setting in recipe_fields())
    assert "passes over the training images [from 1 to 10000; 20, digits 40]" in text


def test_a_run_that_is_stopped_can_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM keeps the state and says how to go on; without --resume the state is not overwritten."""
    out = tmp_path / "a.safetensors"
    command = ["--data", "digits", "--out", str(out), *QUICK]
    with monkeypatch.context() as patched:
        patched.setattr("training.progress.Display.step", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        assert main(command) == 128 + signal.SIGTERM
    assert "with --resume continues from there" in capsys.readouterr().err
    assert not out.exists()
    assert main(command) == 2
    assert "unfinished run" in capsys.readouterr().err
    assert main([*command, "--seed", "1", "--resume"]) == 1
    assert "seed is 1, but the unfinished run has 0" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    assert read_checkpoint(out).metadata.history
    assert not out.with_suffix(".state").exists()


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A small data set."""
    return fill(tmp_path / "pets", {"cat": 6, "dog": 6})


SMALL = ["--epochs", "1", "--width", "0.125", "--size", "32", "--batch-size", "4", "--device", "cpu"]


def stop_at_a_step(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("training.progress.Display.step", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        assert main(command) == 128 + signal.SIGTERM


def test_a_run_resumes_by_content(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed folder and a replaced --init are refused, saying what changed; moved ones go on."""
    first, start, out = (tmp_path / f"{name}.safetensors" for name in ("first", "start", "out"))
    assert main(["--data", f"folder:{pets}", "--out", str(first), *SMALL]) == 0
    start.write_bytes(first.read_bytes())
    command = ["--out", str(out), "--init", str(start), *SMALL]
    stop_at_a_step([*command, "--data", f"folder:{pets}"], monkeypatch)

    random_image(99).save(pets / "cat" / "new.png")
    assert main([*command, "--data", f"folder:{pets}", "--resume"]) == 1
    assert "1 images are new or changed, such as cat/new.png; 0 are gone" in capsys.readouterr().err
    (pets / "cat" / "new.png").unlink()

    assert main(["--data", f"folder:{pets}", "--out", str(start), *SMALL, "--seed", "1"]) == 0
    assert main([*command, "--data", f"folder:{pets}", "--resume"]) == 1
    assert "but the unfinished run began with version" in capsys.readouterr().err

    moved = pets.rename(tmp_path / "dogs")
    command = ["--out", str(out), "--init", str(first), *SMALL]
    assert main([*command, "--data", f"folder:{moved}", "--resume"]) == 0
    recipe = read_checkpoint(out).metadata.recipe
    assert (recipe["data"], recipe["init"]) == ("folder:dogs", "first.safetensors")


def test_the_owner_s_files_stay(pets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A checkpoint beside the data under the folder's name would put its report into the data."""
    (pets / "README.md").write_text("the owner's own notes")
    assert main(["--data", f"folder:{pets}", "--out", f"{pets}.safetensors", *SMALL]) == 2
    assert "out's report is" in capsys.readouterr().err
    assert (pets / "README.md").read_text() == "the owner's own notes"
    assert sorted(path.name for path in pets.parent.iterdir()) == ["pets"]


def test_two_runs_do_not_write_to_one_place(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one is refused at once, with the first one's process and the lock's file."""
    command = ["--data", f"folder:{pets}", "--out", str(tmp_path / "a.safetensors"), *SMALL]
    monkeypatch.setattr("training.progress.Display.epoch", lambda *_: statuses.append(main([*command, "--resume"])))
    statuses: list[int] = []
    assert main(command) == 0
    assert statuses == [2]
    assert f"process {os.getpid()} holds {tmp_path / 'a.lock'}" in capsys.readouterr().err
    assert not (tmp_path / "a.lock").exists()


def test_a_report_that_cannot_be_written_can_be_made_up_for(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checkpoint is there, the line says so, and --resume writes the rest without training."""
    out, report = tmp_path / "a.safetensors", tmp_path / "a"
    command = ["--data", f"folder:{pets}", "--out", str(out), "--save-held-out", str(tmp_path / "held"), *SMALL]
    (report / "report.html").mkdir(parents=True)
    (report / "README.md").write_text('library_name: "vggserve"')
    assert main(command) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"error: {out} is written, but not all that belongs to it (")
    assert read_checkpoint(out).metadata.history
    (report / "report.html").rmdir()
    assert main([*command, "--resume"]) == 0
    assert (report / "report.html").is_file()
    assert len(list((tmp_path / "held").rglob("*.png"))) == 2


def test_minutes_between_states_are_a_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is no time is refused."""
    for minutes in ("nan", "inf", "-1"):
        assert main(["--data", "digits", "--out", str(tmp_path / "a.safetensors"), "--save-every", minutes]) == 2
        assert f"save_every is {float(minutes)}" in capsys.readouterr().err


def test_a_checkpoint_can_be_started_from(tmp_path: Path) -> None:
    """--init takes network, normalisation and weights from a file, --freeze keeps the features as they were."""
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert main(["--data", "digits", "--out", str(first), *QUICK]) == 0
    command = ["--data", "digits", "--out", str(second), "--init", str(first), "--freeze", "features"]
    assert main([*command, "--epochs", "1", "--seed", "1"]) == 0
    before, after = read_checkpoint(first), read_checkpoint(second)
    assert after.metadata.preprocessing == before.metadata.preprocessing
    assert after.metadata.architecture == before.metadata.architecture
    assert after.metadata.recipe["init_version"] == before.version
    moved = {name for name in before.state if not torch.equal(before.state[name], after.state[name])}
    assert moved == {name for name in before.state if name.startswith("head.")}


def test_tensorboard_gets_each_epochs_figures(tmp_path: Path) -> None:
    """On request there are event files, with one scalar a figure and epoch."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    arguments = ["--out", str(tmp_path / "a.safetensors"), "--tensorboard", str(tmp_path / "board")]
    assert main(["--data", "digits", *arguments, *QUICK]) == 0
    events = EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    history = read_checkpoint(tmp_path / "a.safetensors").metadata.history
    [scalar] = events.Scalars("val_accuracy")
    assert (scalar.step, scalar.value) == (1, pytest.approx(history[0]["val_accuracy"]))


def test_a_missing_extra_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server can be installed without what training needs: then one line says what to install."""
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert main(["--data", "digits", "--out", str(tmp_path / "a.safetensors")]) == 1
    assert "rich.console is not installed; pip install -r requirements.lock" in capsys.readouterr().err


def test_help_does_without_torch() -> None:
    """Importing torch takes seconds, and the flags do not need it."""
    assert "torch" not in loaded_by("import training.__main__")
