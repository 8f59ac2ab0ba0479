"""Where a run may write: not over its inputs, not over what others wrote, and not beside another run."""

import argparse
import fcntl
import os
from pathlib import Path

import pytest

from models.files import name_temporary
from tests.fakes.folders import fill
from training.flags import UsageError
from training.lock import lock_outputs
from training.outputs import (
    Place,
    TrainingPlaces,
    check_places,
    check_table,
    check_writable,
    find_inputs,
)


def places(out: Path, held_out: Path | None = None, tensorboard: Path | None = None) -> TrainingPlaces:
    return TrainingPlaces.of(argparse.Namespace(out=out, save_held_out=held_out, tensorboard=tensorboard))


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A data set with its owner's notes."""
    fill(tmp_path / "pets", {"cat": 1, "dog": 1})
    (tmp_path / "pets" / "README.md").write_text("the owner's own notes\n")
    (tmp_path / "link").symlink_to("pets")
    return tmp_path / "pets"


@pytest.mark.parametrize(
    ("out", "others", "message"),
    [
        ("pets.safetensors", {}, r"out's report is .*pets, which is data \("),
        ("link.safetensors", {}, r"out's report is .*link, which is data \("),
        ("pets/cat/a.safetensors", {}, r"out is .*, which lies in data \("),
        ("link/a.safetensors", {}, r"out is .*, which lies in data \("),
        ("a.safetensors", {"held_out": "pets/held"}, r"save_held_out is .*, which lies in data \("),
        ("a.safetensors", {"held_out": "."}, r"save_held_out is .*, which holds data \("),
        ("a.safetensors", {"tensorboard": "pets"}, r"tensorboard is .*, which is data \("),
        ("a.safetensors", {"held_out": "a"}, "save_held_out and out's report are both"),
        ("a.safetensors", {"held_out": "b", "tensorboard": "b"}, "tensorboard and save_held_out are both"),
        ("init.safetensors", {}, r"out is .*, which is init \("),
    ],
)
def test_inputs_are_never_written(pets: Path, out: str, others: dict[str, str], message: str) -> None:
    """Neither an input, nor a place in one or around one, nor one place twice. Nothing is made."""
    root = pets.parent
    before = sorted(root.rglob("*"))
    inputs = find_inputs(f"folder:{pets}", ("init", str(root / "init.safetensors")))
    with pytest.raises(UsageError, match=message):
        places(root / out, **{name: root / path for name, path in others.items()}).check(inputs)
    assert sorted(root.rglob("*")) == before


def test_what_is_no_checkpoint_is_not_replaced(tmp_path: Path, checkpoint: Path) -> None:
    """A file of that name that is something else stays; an earlier checkpoint is replaced."""
    out = tmp_path / "a.safetensors"
    for content in (b"", b"notes", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{}"):
        out.write_bytes(content)
        with pytest.raises(UsageError, match=r"a\.safetensors, which is there already and is no checkpoint"):
            places(out).check([])
    out.write_bytes(checkpoint.read_bytes())
    places(out).check([])


def test_the_report_s_folder_is_an_earlier_run_s_or_empty(tmp_path: Path) -> None:
    """A folder with another's files is refused, with or without a README.md of theirs."""
    folder = tmp_path / "a"
    folder.mkdir()
    places(tmp_path / "a.safetensors").check([])
    (folder / "report.html").touch()
    with pytest.raises(UsageError, match=r"which holds report\.html, but is no earlier run's"):
        places(tmp_path / "a.safetensors").check([])
    (folder / "README.md").write_text("my notes")
    with pytest.raises(UsageError, match="but is no earlier run's"):
        places(tmp_path / "a.safetensors").check([])
    (folder / "README.md").write_text('---\nlicense: "unknown"\nlibrary_name: "vggserve"\n')
    places(tmp_path / "a.safetensors").check([])


def test_other_folders_hold_nothing_of_others(tmp_path: Path) -> None:
    """Held-out images want an empty folder, TensorBoard one with events and other runs' folders at most."""
    (tmp_path / "events" / "run1").mkdir(parents=True)
    (tmp_path / "events" / "events.out.tfevents.1.host").touch()
    places(tmp_path / "a.safetensors", tmp_path / "held", tmp_path / "events").check([])
    (tmp_path / "events" / "notes.txt").touch()
    with pytest.raises(UsageError, match=r"tensorboard is .*, which holds notes\.txt"):
        places(tmp_path / "a.safetensors", None, tmp_path / "events").check([])
    (tmp_path / "held" / "0.png").touch()
    with pytest.raises(UsageError, match=r"save_held_out is .*, which is not empty but holds 0\.png"):
        places(tmp_path / "a.safetensors", tmp_path / "held").check([])


def test_a_table_of_others_stays(tmp_path: Path) -> None:
    """Results are replaced where the table is ours."""
    out, results = Place("out", tmp_path, is_folder=True), ("a.md", "a.png")
    check_table(out, "a.md", "| run |", results)
    (tmp_path / "a.png").touch()
    with pytest.raises(UsageError, match=r"which holds a\.png, but is no earlier run's"):
        check_table(out, "a.md", "| run |", results)
    (tmp_path / "a.md").write_text("| run | epochs |")
    check_table(out, "a.md", "| run |", results)


@pytest.mark.parametrize("name", ["file/a.safetensors", "x" * 240 + ".safetensors"])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, name: str) -> None:
    """Below a file, or with a name that leaves no room for a temporary one."""
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="but nothing can be written there"):
        check_writable(Place("out", tmp_path / name))


def test_two_runs_exclude_each_other(tmp_path: Path) -> None:
    """The second one is told the file and the process; when the first one ends, it may run."""
    lock = tmp_path / "a.lock"
    with lock_outputs(lock):
        with pytest.raises(UsageError, match=rf"process {os.getpid()} holds .*a\.lock"), lock_outputs(lock):
            pass
        assert lock.exists()
    assert not lock.exists()
    with lock_outputs(lock):
        pass


def test_a_lock_of_a_dead_run_is_no_lock(tmp_path: Path) -> None:
    """The file may be left; the system has dropped the lock. What the dead run left half written is deleted."""
    lock, state = tmp_path / "a.lock", tmp_path / "a.state"
    lock.write_text("123456789012\n")
    name_temporary(state).touch()
    with lock_outputs(lock, state):
        assert lock.read_text() == f"{os.getpid()}\n"
        assert list(tmp_path.iterdir()) == [lock]


def test_a_lock_that_was_deleted_is_taken_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that waits for a descriptor while another one ends must not lock a file without a name."""
    lock, flock = tmp_path / "a.lock", fcntl.flock
    calls = []

    def delete_first(descriptor: int, operation: int) -> None:
        flock(descriptor, operation)
        calls.append(descriptor)
        if len(calls) == 1:
            lock.unlink()

    monkeypatch.setattr(fcntl, "flock", delete_first)
    with lock_outputs(lock):
        assert lock.exists()
    assert len(calls) == 2


def test_without_a_path_there_is_no_input() -> None:
    """Data sets by name are downloaded, not read from a folder of the user's."""
    assert find_inputs("digits", ("init", "")) == []
    check_places([Place("out", Path("a"))], [])
