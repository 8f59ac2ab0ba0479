"""Where a run writes. Every place is checked before the work.

Owns which files are ours, and what a run's places are.
"""

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.files import name_temporary
from training.data.items import expand_user
from training.data.sources import parse_data
from training.errors import one_line_message
from training.flags import UsageError

DOCUMENT_KEY = "classifier"  # in the metadata of a checkpoint's file
MAX_HEADER_BYTES = 100 * 2**20  # of a safetensors file
CARD, CARD_MARK = "README.md", b'library_name: "vggserve"'  # a model card, and what only ours has
MARK_BYTES = 4096  # the mark is near the file's start
EVENTS = re.compile(r"events\.out\.tfevents\..*")
CHECKPOINT_SUFFIX, STATE_SUFFIX, LOCK_SUFFIX = ".safetensors", ".state", ".lock"


@dataclass(frozen=True, slots=True)
class Place:
    """A file or folder that a run reads or writes, and the argument that names it, or that it follows from."""

    argument: str
    path: Path
    is_folder: bool = False


@dataclass(frozen=True, slots=True)
class TrainingPlaces:
    """All that a run writes: checkpoint, report, state, lock and, on request, held-out images and events."""

    out: Place
    report: Place
    state: Path
    lock: Path
    held_out: Place | None
    events: Place | None

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> "TrainingPlaces":
        """The places that the arguments name. Raises UsageError."""
        out: Path = arguments.out
        if out.is_dir():
            raise UsageError(f"out is {out}, a folder, but must be a file's name")
        if out.suffix != CHECKPOINT_SUFFIX:
            raise UsageError(f"out is {out}, but must end in {CHECKPOINT_SUFFIX}")
        held_out, events = arguments.save_held_out, arguments.tensorboard
        return cls(
            out=Place("out", out),
            report=Place("out's report", out.with_suffix(""), is_folder=True),
            state=out.with_suffix(STATE_SUFFIX),
            lock=out.with_suffix(LOCK_SUFFIX),
            held_out=Place("save_held_out", held_out, is_folder=True) if held_out else None,
            events=Place("tensorboard", events, is_folder=True) if events else None,
        )

    def check(self, inputs: Sequence[Place]) -> None:
        """Raises UsageError, before anything is made or read, for a place that must not or cannot be written."""
        others = [place for place in (self.report, self.held_out, self.events) if place]
        files = [Place("out", path) for path in (self.state, self.lock)]
        check_places([self.out, *files, *others], inputs)
        check_checkpoint(self.out)
        check_writable(self.out)
        check_report(self.report)
        if self.held_out:
            check_empty(self.held_out)
        if self.events:
            check_events(self.events)
        for place in others[1:]:
            check_writable(place)


def find_inputs(data: str, *files: tuple[str, str]) -> list[Place]:
    """The data set's folder or file, if it has one, and the files of other arguments that are not empty."""
    _, path = parse_data(data)
    places = [("data", path), *files]
    return [Place(argument, expand_user(Path(path))) for argument, path in places if path]


def check_places(outputs: Sequence[Place], inputs: Sequence[Place]) -> None:
    """Raises UsageError for an output that is an input, lies in one or holds one, or is another output too."""
    for output in outputs:
        place = output.path.resolve()
        for given in inputs:
            source = given.path.resolve()
            if place == source:
                relation = "is"
            elif source.is_dir() and place.is_relative_to(source):
                relation = "lies in"
            elif output.is_folder and source.is_relative_to(place):
                relation = "holds"
            else:
                continue
            raise UsageError(f"{output.argument} is {output.path}, which {relation} {given.argument} ({given.path})")
    seen: dict[Path, Place] = {}
    for output in outputs:
        if (other := seen.setdefault(output.path.resolve(), output)) is not output:
            raise UsageError(f"{output.argument} and {other.argument} are both {output.path}")


def check_writable(output: Place) -> None:
    """Makes the folder and tries to write there, under as long a name as the work will need. Raises UsageError."""
    folder = output.path if output.is_folder else output.path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial = name_temporary(folder / "trial" if output.is_folder else output.path)
        with trial.open("xb"):
            trial.unlink()
    except OSError as error:
        why = error.strerror or one_line_message(error)
        raise UsageError(f"{output.argument} is {output.path}, but nothing can be written there ({why})") from error


def check_checkpoint(output: Place) -> None:
    """Raises UsageError if something that is no checkpoint of ours has the name of the checkpoint to write."""
    if output.path.is_dir():
        raise UsageError(f"{output.argument} is {output.path}, a folder, but must be a file's name")
    if output.path.exists() and not _is_checkpoint(output.path):
        raise UsageError(f"{output.argument} is {output.path}, which is there already and is no checkpoint")


def check_report(output: Place) -> None:
    """Raises UsageError if the folder holds files, but not the model card of an earlier run."""
    if names := _list_names(output):
        card = output.path / CARD
        if not card.is_file() or CARD_MARK not in card.read_bytes()[:MARK_BYTES]:
            raise UsageError(f"{output.argument} is {output.path}, which holds {names[0]}, but is no earlier run's")


def check_empty(output: Place) -> None:
    """Raises UsageError if the folder holds anything."""
    if names := _list_names(output):
        raise UsageError(f"{output.argument} is {output.path}, which is not empty but holds {names[0]}")


def check_table(output: Place, table: str, start: str, results: Sequence[str]) -> None:
    """Raises UsageError if the folder holds one of `results`, but not the file `table` that begins with `start`."""
    if theirs := [name for name in _list_names(output) if name in results]:
        path = output.path / table
        if not path.is_file() or not path.read_bytes().startswith(start.encode()):
            raise UsageError(f"{output.argument} is {output.path}, which holds {theirs[0]}, but is no earlier run's")


def check_events(output: Place) -> None:
    """Raises UsageError if the folder holds files that are not TensorBoard's. Folders are runs of their own."""
    foreign = [name for name in _list_names(output) if not EVENTS.fullmatch(name)]
    if files := [name for name in foreign if not (output.path / name).is_dir()]:
        raise UsageError(f"{output.argument} is {output.path}, which holds {files[0]}, but may hold events alone")


def _is_checkpoint(path: Path) -> bool:
    """Whether the file has a checkpoint's header. Its contents are not checked."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size)) if size <= MAX_HEADER_BYTES else {}
        return DOCUMENT_KEY in header["__metadata__"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _list_names(output: Place) -> list[str]:
    try:
        return sorted(entry.name for entry in output.path.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        why = error.strerror or one_line_message(error)
        raise UsageError(f"{output.argument} is {output.path}, which cannot be listed ({why})") from error
