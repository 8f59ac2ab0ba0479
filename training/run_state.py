"""The state of an unfinished run, in a file beside the checkpoint that it is to become.

Owns the file, when it is due, and the signals that ask a run to stop. The state is tensors and primitives, read with
`weights_only`.
"""

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import torch

from models.files import replace_atomically
from training.errors import TrainingError, one_line_message

FORMAT = 2
# Settings that name files. A run goes on with the same contents, wherever they lie now.
PLACES = ("data", "init")
IDENTITY_DIGITS = 16

State = dict[str, Any]


class StateError(TrainingError):
    """A state that a run cannot continue from, or that the disk has no room for."""


class StoppedError(TrainingError):
    """A run that was asked to stop, and whose state is kept; `signal_number` is what asked."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(f"{message}; the same command with --resume continues from there")
        self.signal_number = signal_number


class StateFile:
    """The state at `path`, written every `interval_seconds` and whenever a run asks for it."""

    def __init__(self, path: Path, interval_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.path, self.interval_seconds, self.clock = path, interval_seconds, clock
        self.written = clock()

    def is_due(self) -> bool:
        return self.clock() - self.written >= self.interval_seconds

    def write(self, state: State) -> None:
        """Replaces the state atomically. Raises StateError."""
        try:
            with replace_atomically(self.path) as file:
                writer = _Writer(file)
                try:
                    torch.save({"format": FORMAT, **state}, cast(IO[bytes], writer))
                except RuntimeError:  # what torch makes of an error in writing does not say that the disk is full
                    if writer.error:
                        raise writer.error from None
                    raise
        except (OSError, RuntimeError) as error:
            raise StateError(f"{self.path} cannot be written: {one_line_message(error)}") from error
        self.written = self.clock()

    def read(self) -> State | None:
        """The state, or None where there is none. Raises StateError for a file that is not a whole state."""
        if not self.path.exists():
            return None
        try:
            state: State = torch.load(self.path, weights_only=True, map_location="cpu")
            found = state.pop("format")
        except Exception as error:  # on broken files torch raises a dozen kinds, from OSError to IndexError
            raise StateError(f"{self.path} is no whole state of a run: {one_line_message(error)}") from error
        if found != FORMAT:
            raise StateError(f"{self.path} has the format {found}, but this version reads {FORMAT}")
        return state

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)

    def check_room(self, weights_bytes: int) -> None:
        """Raises StateError if the disk has no room for what a run of so many bytes of weights writes.

        A state has the weights, their average and the momentum; the next one is written before the last one
        goes; and then there is the checkpoint.
        """
        need, free = 7 * weights_bytes, shutil.disk_usage(self.path.parent).free
        if free < need:
            raise StateError(
                f"{self.path.parent} has {free / 2**20:,.0f} MiB free, but the run's state and its checkpoint "
                f"take up to {need / 2**20:,.0f} MiB"
            )


class _Writer:
    """Passes what torch writes on to a file, and keeps the file's error, of which torch makes one of its own."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """What a run must have in common with the state that it goes on from.

    `recipe` are its settings, `fingerprint` is that of its data, and `init_version` is the version of the checkpoint
    that it started from, empty if there is none. `images` are the names of all images by their identities in hex.
    """

    recipe: dict[str, Any]
    fingerprint: str
    init_version: str
    images: dict[str, str]

    def to_state(self) -> State:
        """The same as primitives and a tensor."""
        identities = bytes.fromhex("".join(self.images))
        return {
            "recipe": self.recipe,
            "fingerprint": self.fingerprint,
            "init_version": self.init_version,
            "images": torch.frombuffer(bytearray(identities or b"\0"), dtype=torch.uint8),
        }

    def check_same(self, state: State) -> None:
        """Raises StateError, which says what differs, if the state is of another run."""
        for name, value in self.recipe.items():
            if name not in PLACES and state["recipe"].get(name) != value:
                raise StateError(f"{name} is {value!r}, but the unfinished run has {state['recipe'].get(name)!r}")
        if state["init_version"] != self.init_version:
            raise StateError(
                f"init is {self.recipe['init']!r} of version {self.init_version or 'none'},"
                f" but the unfinished run began with version {state['init_version'] or 'none'}"
            )
        if state["fingerprint"] != self.fingerprint:
            changes = self._describe_changes(state["images"].numpy().tobytes().hex())
            raise StateError(f"{self.recipe['data']} has changed since the unfinished run began: {changes}")

    def _describe_changes(self, before: str) -> str:
        known = {before[i : i + IDENTITY_DIGITS] for i in range(0, len(before), IDENTITY_DIGITS)}
        new = [name for identity, name in self.images.items() if identity not in known]
        gone = len(known - self.images.keys())
        if not new and not gone:
            return "the same images are in other splits, or more than once"
        example = f", such as {new[0]}" if new else ""
        return f"{len(new):,} images are new or changed{example}; {gone:,} are gone or changed"


class StopFlag:
    """Whether a signal asked the run to stop, and which one."""

    def __init__(self) -> None:
        self.signal_number = 0

    def __bool__(self) -> bool:
        return self.signal_number != 0


@contextmanager
def stop_on_signals() -> Iterator[StopFlag]:
    """Ctrl-C and SIGTERM ask the run to stop at the next step. A second Ctrl-C ends the process at once."""
    stop = StopFlag()

    def ask(number: int, _: object) -> None:
        stop.signal_number = number
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
