"""What is in memory: bytes of request bodies, and of what was freed.

Owns the sum of all bodies, as every limit on one of them leaves open how many come together.
"""

import ctypes
from contextlib import suppress
from typing import Self

from app.errors import QueueFull


class BodyMemory:
    """Counted on the event loop alone."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0

    def claim(self) -> "Claim":
        """One request's share, which grows as its body arrives."""
        return Claim(self)


class Claim:
    """Given back at the end of the `with` block."""

    def __init__(self, memory: BodyMemory) -> None:
        self._memory = memory
        self._bytes = 0

    def add(self, received_bytes: int) -> None:
        """Raises QueueFull if all bodies together would exceed the limit."""
        memory = self._memory
        if memory.used_bytes + received_bytes > memory.limit_bytes:
            raise QueueFull(f"The bodies of all requests together exceed {memory.limit_bytes} bytes.", retry_after=1)
        memory.used_bytes += received_bytes
        self._bytes += received_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._memory.used_bytes -= self._bytes
        self._bytes = 0


def trim() -> None:
    """Gives freed memory back to the system, malloc_trim(3), where the C library is glibc.

    Left to itself it keeps what lies between pages in use, after a load as much as a small checkpoint.
    """
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
