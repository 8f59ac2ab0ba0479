"""stdout and stderr that cannot be written: the work is done all the same."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from training.flags import run_command
from training.streams import TolerantStream, write_stdout

SUMMARY = "wrote caf\\xe9\\n"
PROGRAM = f"from training.flags import run_command; raise SystemExit(run_command(lambda: {SUMMARY!r}))".replace(
    "\\\\", "\\"
)


def finish(command: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Runs a command that has nothing to do but to print a line with an accent, in a shell."""
    line = command.format(python=f'{sys.executable} -c "{PROGRAM}"')
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **variables}
    return subprocess.run(["/bin/bash", "-c", line], capture_output=True, env=environment, check=False)  # noqa: S603


def test_an_encoding_without_the_character_escapes_it() -> None:
    """LANG=C must not make a failure of a run of hours."""
    done = finish("{python}", PYTHONIOENCODING="ascii", LANG="C")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"wrote caf\\xe9\n", b"")


@pytest.mark.parametrize(
    ("command", "stderr"),
    [
        ("{python} >&-", b""),
        ("{python} >&- 2>&-", b""),
        ("{python} 2>&- <&-", b""),
        ("{python} > >(exec <&-; exit 0)", b""),
        (
            "{python} > /dev/full",
            b"the work is done, but stdout cannot be written: [Errno 28] No space left on device\n",
        ),
    ],
)
def test_nobody_who_reads_is_no_failure(command: str, stderr: bytes) -> None:
    """A closed stdout, a reader that has gone and a full disk: the status is 0."""
    done = finish(command)
    assert (done.returncode, done.stderr) == (0, stderr)


def test_a_stream_that_fails_is_left_alone() -> None:
    """After the first error nothing is written to it, and its owner is told."""
    stream = TolerantStream(Full())
    assert stream.write("one") == 3
    assert isinstance(stream.error, OSError)
    assert stream.write("two") == 3
    stream.flush()
    assert not stream.isatty()
    with pytest.raises(OSError, match="the stream is closed"):
        stream.fileno()


class Full(io.StringIO):
    """A stream on a full disk, written once."""

    def write(self, text: str) -> int:
        assert text == "one"
        raise OSError(28, "No space left on device")


def test_a_text_is_written_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is a reader."""
    assert write_stdout("caf\xe9\n") is None
    assert capsys.readouterr().out == "caf\xe9\n"


def test_memory_that_is_not_enough_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Wherever Python itself runs out of it."""

    def work() -> str:
        raise MemoryError

    assert run_command(work) == 1
    assert capsys.readouterr().err.startswith("error: the memory is not enough;")
