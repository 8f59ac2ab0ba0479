"""Standard error that never makes its writers wait.

Owns what happens when what reads the log stalls: a pipe that is full stops whoever writes to it.
"""

import io
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

MAX_PENDING_BYTES = 4 * 2**20  # of text that is not written yet, beside the piece that is being written
DRAIN_SECONDS = 1.0  # for the rest of the text at the end of the process


class BoundedStream(io.TextIOBase):
    """Gives text to `write_bytes` from a thread of its own, in pieces as large as what has come meanwhile.

    Text beyond `max_pending_bytes`, and text that cannot be written, is dropped. `on_drop` gets the number of lines.
    Once text can be written again, the line that `describe_dropped` makes of the number follows.
    """

    def __init__(
        self,
        write_bytes: Callable[[bytes], None],
        on_drop: Callable[[int], None],
        describe_dropped: Callable[[int], str],
        max_pending_bytes: int = MAX_PENDING_BYTES,
    ) -> None:
        self._write_bytes = write_bytes
        self._on_drop = on_drop
        self._describe_dropped = describe_dropped
        self._max_pending_bytes = max_pending_bytes
        self._changed = threading.Condition()
        self._pending: deque[bytes] = deque()
        self._pending_bytes = 0
        self._is_writing = False
        self._dropped_lines = 0  # that are not reported yet
        threading.Thread(target=self._run, name="stderr", daemon=True).start()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        """Keeps `text` for the thread, or drops it. Returns at once."""
        data = text.encode("utf-8", "backslashreplace")
        with self._changed:
            if self._pending_bytes + len(data) > self._max_pending_bytes:
                self._count_dropped(data)
            else:
                self._pending.append(data)
                self._pending_bytes += len(data)
                self._changed.notify_all()
        return len(text)

    def drain(self, seconds: float) -> bool:
        """Waits until everything is written, for at most that long. Returns whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._pending or self._is_writing), seconds)

    def _run(self) -> None:
        while True:
            data = self._take()
            try:
                self._write_bytes(data)
            except OSError:  # nobody reads any more, or the disk is full
                with self._changed:
                    self._count_dropped(data)

    def _take(self) -> bytes:
        """Waits for text, and returns all that there is."""
        with self._changed:
            self._is_writing = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._pending)
            self._is_writing = True
            if self._dropped_lines:
                self._pending.append(self._describe_dropped(self._dropped_lines).encode() + b"\n")
                self._dropped_lines = 0
            data = b"".join(self._pending)
            self._pending.clear()
            self._pending_bytes = 0
            return data

    def _count_dropped(self, data: bytes) -> None:
        lines = max(1, data.count(b"\n"))
        self._dropped_lines += lines
        self._on_drop(lines)


@contextmanager
def bounded_stderr(on_drop: Callable[[int], None], describe_dropped: Callable[[int], str]) -> Iterator[BoundedStream]:
    """Puts a bounded stream in the place of `sys.stderr` for the length of the block.

    At its end the rest of the text has DRAIN_SECONDS to be written.
    """
    before = sys.stderr
    stream = BoundedStream(_bytes_writer(before), on_drop, describe_dropped)
    sys.stderr = stream
    try:
        yield stream
    finally:
        stream.drain(DRAIN_SECONDS)
        sys.stderr = before


def _bytes_writer(stream: TextIO) -> Callable[[bytes], None]:
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # a stream without a file, as tests have it
        return lambda data: _write_text(stream, data)
    return lambda data: _write_all(descriptor, data)


def _write_text(stream: TextIO, data: bytes) -> None:
    stream.write(data.decode())


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:  # another process that shares the pipe has made it non-blocking
            select.select([], [descriptor], [])
