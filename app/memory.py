"""The memory that request bodies take, all of them together.

A limit on one body does not limit how many bodies are in memory at the same time.
"""

from typing import Self

from app.errors import QueueFull


class BodyMemory:
    """The sum of all bodies in memory. Used on the event loop alone."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0

    def reserve(self) -> "Reservation":
        """An empty reservation for one request. It grows while the request's body arrives."""
        return Reservation(self)


class Reservation:
    """The bytes of one request's body. They are released at the end of the `with` block."""

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
