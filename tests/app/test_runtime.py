"""How the process uses the machine."""

import ctypes
import os
import resource
from pathlib import Path

import pytest

from app.runtime import limit_openmp_spinning, raise_open_file_limit, release_freed_memory


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
