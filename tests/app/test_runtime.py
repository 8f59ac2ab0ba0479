"""What the process asks of the C library."""

import ctypes
from pathlib import Path

import pytest

from app.runtime import release_freed_memory


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
