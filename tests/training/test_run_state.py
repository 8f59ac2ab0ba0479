"""Runs that are cut off: what is kept, that they go on as if nothing had been, and what is refused."""

import os
import resource
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from models.files import replace_atomically
from tests.fakes.runs import ALONE, KilledError, Killer, digits
from training.loop import Record, Step, Trained, train
from training.run_state import RunIdentity, StateError, StateFile, StopFlag, StoppedError, stop_on_signals

NEVER = float("inf")


class Asker(Killer):
    """Asks the run to stop at the step of this number."""

    def __init__(self, number: int, stop: StopFlag) -> None:
        super().__init__(number)
        self.stop = stop

    def step(self, step: Step) -> None:
        if step.number == self.number:
            self.stop.signal_number = signal.SIGTERM


def same(one: Trained, other: Trained) -> bool:
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def without_times(trained: Trained) -> list[Record]:
    return [{name: value for name, value in record.items() if name != "seconds"} for record in trained.history]


@pytest.mark.parametrize("interval", [0.0, NEVER])
@pytest.mark.parametrize("head", ["pooled", "paper"])
def test_a_killed_run_ends_with_the_weights_of_an_unbroken_one(tmp_path: Path, interval: float, head: str) -> None:
    """Killed in the middle of an epoch, resumed from that step or from the epoch's start: equal to the last bit."""
    dataset, recipe = digits(head=head, balance="weights")  # the head `paper` has dropout
    unbroken = train(dataset, recipe, ALONE, Killer())
    kept = StateFile(tmp_path / "a.state", interval)
    with pytest.raises(KilledError):
        train(dataset, recipe, ALONE, Killer(6), state_file=kept)
    torch.manual_seed(99)  # another process has another random state
    resumed = train(dataset, recipe, ALONE, Killer(), state_file=StateFile(tmp_path / "a.state", interval))
    assert same(resumed, unbroken)
    assert without_times(resumed) == without_times(unbroken)


def test_a_run_that_is_asked_to_stop_loses_no_step(tmp_path: Path) -> None:
    """It keeps its state after the very step, and says so."""
    dataset, recipe = digits()
    kept, stop = StateFile(tmp_path / "a.state", NEVER), StopFlag()
    with pytest.raises(StoppedError, match=r"stopped after step 3 of 8; .* --resume"):
        train(dataset, recipe, ALONE, Asker(3, stop), state_file=kept, stop=stop)
    state = kept.read()
    assert state is not None
    assert state["global_step"] == 3


def test_a_finished_state_needs_no_further_step(tmp_path: Path) -> None:
    """A run that was cut off behind its last step has its weights and its history in the state."""
    dataset, recipe = digits(epochs=1)
    first = train(dataset, recipe, ALONE, Killer(), state_file=StateFile(tmp_path / "a.state", NEVER))
    again = train(dataset, recipe, ALONE, Killer(1), state_file=StateFile(tmp_path / "a.state", NEVER))
    assert same(first, again)
    assert again.history == first.history


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0.05}, "lr is 0.05, but the unfinished run has 0.1"),
        ({"epochs": 3}, "epochs is 3, but the unfinished run has 1"),
    ],
)
def test_another_recipe_is_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    """A run goes on with the recipe that it began with, or not at all."""
    dataset, recipe = digits(epochs=1)
    train(dataset, recipe, ALONE, Killer(), state_file=StateFile(tmp_path / "a.state", NEVER))
    dataset, recipe = digits(**{"epochs": 1, **settings})
    with pytest.raises(StateError, match=message):
        train(dataset, recipe, ALONE, Killer(), state_file=StateFile(tmp_path / "a.state", NEVER))


def test_other_data_is_refused(tmp_path: Path) -> None:
    """A single pixel that has changed is other data."""
    dataset, recipe = digits(epochs=1)
    train(dataset, recipe, ALONE, Killer(), state_file=StateFile(tmp_path / "a.state", NEVER))
    dataset.fingerprints["train"] = "0" * 64
    with pytest.raises(StateError, match="digits has changed since the unfinished run began"):
        train(dataset, recipe, ALONE, Killer(), state_file=StateFile(tmp_path / "a.state", NEVER))


SETTINGS = {"data": "folder:/a/pets", "init": "/a/b.safetensors", "lr": 0.1}
SAME = RunIdentity(SETTINGS, "f1", "v1", {"0a" * 8: "cat/0.png"})


def test_what_has_moved_is_the_same() -> None:
    """Data and starting checkpoint are compared by content, so they may lie elsewhere."""
    moved = replace(SAME, recipe={**SETTINGS, "data": "folder:/b/dogs", "init": "/b/c.safetensors"})
    moved.check_same(SAME.to_state())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init_version": "v2"}, "of version v2, but the unfinished run began with version v1$"),
        ({"init_version": ""}, "of version none, but the unfinished run began with version v1$"),
        (
            {"fingerprint": "f2"},
            "/a/pets has changed .*: the same images are in other splits, or more than once$",
        ),
        (
            {"fingerprint": "f2", "images": {"0a" * 8: "cat/0.png", "0b" * 8: "cat/1.png"}},
            r": 1 images are new or changed, such as cat/1\.png; 0 are gone or changed$",
        ),
        (
            {"fingerprint": "f2", "images": {"0b" * 8: "cat/0.png"}},
            r": 1 images are new or changed, such as cat/0\.png; 1 are gone or changed$",
        ),
        ({"fingerprint": "f2", "images": {}}, ": 0 images are new or changed; 1 are gone or changed$"),
    ],
)
def test_what_has_changed_is_said(changes: dict[str, Any], message: str) -> None:
    """A replaced checkpoint and changed images under the same name are another run."""
    with pytest.raises(StateError, match=message):
        replace(SAME, **changes).check_same(SAME.to_state())


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_state_is_due_by_time(tmp_path: Path) -> None:
    """So many seconds after the last one was written, and not before."""
    clock = Clock()
    kept = StateFile(tmp_path / "a.state", 300, clock)
    clock.now = 299
    assert not kept.is_due()
    clock.now = 300
    assert kept.is_due()
    kept.write({"done": 1})
    assert not kept.is_due()
    assert kept.read() == {"done": 1}


class Planned(NamedTuple):
    """Something that runs code when it is unpickled."""

    path: str

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("content", [b"", b"rubbish", b"PK\x03\x04 and no more"])
def test_what_is_no_state_is_refused(tmp_path: Path, content: bytes) -> None:
    """Anything but a whole state is one line that names the file."""
    path = tmp_path / "a.state"
    path.write_bytes(content)
    with pytest.raises(StateError, match=r"a\.state is no whole state of a run"):
        StateFile(path, NEVER).read()


def test_a_state_runs_no_code(tmp_path: Path) -> None:
    """A pickle that would do something is refused, and does nothing."""
    torch.save({"format": 1, "done": Planned(str(tmp_path / "made"))}, tmp_path / "a.state")
    with pytest.raises(StateError, match="is no whole state"):
        StateFile(tmp_path / "a.state", NEVER).read()
    assert not (tmp_path / "made").exists()


def test_half_a_state_never_has_the_name(tmp_path: Path) -> None:
    """A write that fails leaves the last state as it was, and nothing beside it."""
    path = tmp_path / "a.state"
    path.write_bytes(b"old")

    def write_half() -> None:
        with replace_atomically(path) as file:
            file.write(b"half of the n")
            raise KilledError

    with pytest.raises(KilledError):
        write_half()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_found_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run will write has to fit before its first step."""
    dataset, recipe = digits()
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(free=2**20))
    with pytest.raises(StateError, match=r"has 1 MiB free, but the run's state and its checkpoint take up to \d+ MiB"):
        train(dataset, recipe, ALONE, Killer(1), state_file=StateFile(tmp_path / "a.state", NEVER))


def test_a_disk_that_fills_is_said_plainly(tmp_path: Path) -> None:
    """torch's own words speak of positions in a container. The last state stays."""
    kept = StateFile(tmp_path / "a.state", NEVER)
    kept.write({"done": 1})
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(StateError, match=r"a\.state cannot be written: \[Errno 27\] File too large$"):
            kept.write({"weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert kept.read() == {"done": 1}
    assert list(tmp_path.iterdir()) == [tmp_path / "a.state"]


class Usage(NamedTuple):
    """What is asked of a disk."""

    free: int


def test_signals_are_wishes_while_a_run_goes_on() -> None:
    """SIGTERM and Ctrl-C are remembered; a second Ctrl-C interrupts; afterwards all is as before."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stop_on_signals() as stop:
        assert not stop
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop
        assert stop.signal_number == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
