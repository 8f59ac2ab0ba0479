"""Standard error that does not make its writers wait."""

import io
import os
import sys
import threading
from collections.abc import Callable

import pytest

from app.stderr import BoundedStream, bounded_stderr


class Reader:
    """What reads the log. It reads only while its gate is open."""

    def __init__(self) -> None:
        self.gate, self._entered = threading.Event(), threading.Semaphore(0)
        self.text = ""
        self.error: OSError | None = None

    def write_bytes(self, data: bytes) -> None:
        self._entered.release()
        self.gate.wait()
        if self.error is not None:
            raise self.error
        self.text += data.decode()

    def entered(self) -> None:
        self._entered.acquire()


def make_stream(reader: Reader, dropped: list[int], max_bytes: int = 100) -> BoundedStream:
    return BoundedStream(reader.write_bytes, dropped.append, lambda lines: f"{lines} dropped", max_bytes)


def test_a_reader_that_stalls_does_not_stop_the_writer() -> None:
    """Lines beyond the bound are dropped and counted, and the log says so once it is read again."""
    reader, dropped = Reader(), list[int]()
    stream = make_stream(reader, dropped)
    stream.write("first\n")
    reader.entered()
    for number in range(30):
        stream.write(f"line {number:3}\n")
    assert sum(dropped) == 30 - 11
    assert not stream.drain(0.0)
    reader.gate.set()
    assert stream.drain(10.0)
    stream.write("last\n")
    assert stream.drain(10.0)
    kept = "".join(f"line {number:3}\n" for number in range(11))
    assert reader.text == f"first\n{kept}19 dropped\nlast\n"


def test_a_reader_that_has_gone_stops_nothing() -> None:
    """What cannot be written, for example to a closed pipe, counts as dropped."""
    reader, dropped = Reader(), list[int]()
    reader.error = BrokenPipeError()
    reader.gate.set()
    stream = make_stream(reader, dropped)
    stream.write("one\ntwo\n")
    assert stream.drain(10.0)
    assert dropped == [2]
    reader.error = None
    stream.write("three\n")
    assert stream.drain(10.0)
    assert reader.text == "three\n2 dropped\n"


@pytest.mark.parametrize("is_blocking", [True, False])
def test_a_full_pipe_is_waited_for(monkeypatch: pytest.MonkeyPatch, is_blocking: bool) -> None:
    """All text arrives through a pipe that is smaller than it, also where another process made it non-blocking."""
    reading, writing = os.pipe()
    os.set_blocking(writing, is_blocking)
    text = "x" * 1_000_000
    received: list[str] = []
    with os.fdopen(writing, "w") as pipe, os.fdopen(reading) as other:
        reader = threading.Thread(target=lambda: received.append(other.read()))
        monkeypatch.setattr("sys.stderr", pipe)
        reader.start()
        with bounded_stderr(print, str) as stream:
            print(text, end="", file=stream)
            assert stream.drain(60.0)
        pipe.close()
        reader.join()
    assert received == [text]


def test_it_takes_the_place_of_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the block all that is printed there goes through it, after the block nothing."""
    file, drops = io.StringIO(), list[int]()
    describe: Callable[[int], str] = str
    monkeypatch.setattr("sys.stderr", file)
    with bounded_stderr(drops.append, describe):
        sys.stderr.write("with \udce9 inside\n")
    assert sys.stderr is file
    assert file.getvalue() == "with \\udce9 inside\n"
