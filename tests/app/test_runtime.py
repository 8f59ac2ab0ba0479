"""How the process uses the machine."""

import ctypes
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.runtime import (
    accept_hangup,
    defer_hangup,
    limit_openmp_spinning,
    raise_open_file_limit,
    release_freed_memory,
)
from tests.fakes.imports import ROOT

CLOSED_STREAMS = """
import os, sys
for descriptor in range(3):
    os.close(descriptor)
sys.stdin = sys.stdout = sys.stderr = None
from app.runtime import open_standard_streams
open_standard_streams()
print("nowhere")
print("nowhere", file=sys.stderr)
kinds = {os.path.realpath(f"/proc/self/fd/{descriptor}") for descriptor in range(3)}
sys.exit(0 if kinds == {os.devnull} and os.dup(1) > 2 else 1)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not glibc")
def test_freed_memory_goes_back() -> None:
    """What was freed between pages in use is no longer resident."""
    blocks = [b"x" * 60_000 for _ in range(2_000)]  # 120 MB, below malloc's limit for pages of their own
    kept = blocks[::50]
    del blocks
    before = resident_megabytes()
    release_freed_memory()
    assert resident_megabytes() < before - 50
    assert len(kept) == 40


def resident_megabytes() -> float:
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


def test_a_spin_count_that_is_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator's own GOMP_SPINCOUNT is kept; without one the server sets its own."""
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    limit_openmp_spinning()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    limit_openmp_spinning()
    assert os.environ["GOMP_SPINCOUNT"] == "1000"


def test_as_many_files_may_be_open_as_the_system_allows() -> None:
    """The soft limit becomes the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        raise_open_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_closed_standard_streams_are_opened() -> None:
    """Otherwise the next socket would get the number of standard error, and libraries would print into it."""
    assert subprocess.run([sys.executable, "-c", CLOSED_STREAMS], cwd=ROOT, check=False).returncode == 0  # noqa: S603


def test_a_hangup_waits_until_it_is_accepted() -> None:
    """A SIGHUP that comes before its handler is set is delivered after it."""
    received: list[int] = []
    before = signal.getsignal(signal.SIGHUP)
    defer_hangup()
    try:
        signal.raise_signal(signal.SIGHUP)
        signal.signal(signal.SIGHUP, lambda number, _: received.append(number))
        assert received == []
        accept_hangup()
        assert received == [signal.SIGHUP]
    finally:
        accept_hangup()
        signal.signal(signal.SIGHUP, before)
