"""All connections of the process: how many there may be, how many of one address, and which give way.

Every connection is an open file, and holds up to one head and one read of the socket in memory.
"""

from collections import Counter
from typing import Protocol

from app.runtime import open_file_limit

MAX_CONNECTIONS = 10_000
RESERVED_FILES = 64  # for the checkpoint, the log, listening sockets, libraries
# A part of the connections is left for other addresses. So probes get in while one client takes all that it can.
ADDRESS_SHARE = 0.75


class Closable(Protocol):
    """A connection."""

    def close(self) -> None:
        """Closes it."""


class ConnectionRegistry:
    """Admits connections. Used on one event loop alone."""

    def __init__(self, max_connections: int = MAX_CONNECTIONS) -> None:
        self._max_connections = max_connections
        self._addresses: dict[Closable, str] = {}
        self._counts: Counter[str] = Counter()
        self._idle: dict[Closable, None] = {}  # in the order in which they became idle

    def __len__(self) -> int:
        return len(self._addresses)

    def limit(self) -> int:
        """The most connections: `max_connections`, or what the limit of open files leaves."""
        files = open_file_limit()
        return self._max_connections if files is None else max(1, min(self._max_connections, files - RESERVED_FILES))

    def admit(self, connection: Closable, address: str) -> bool:
        """Whether there is room for a connection from `address`, which is empty for a Unix socket.

        Where there is none, the connection that has been idle longest is closed for the new one.
        """
        limit = self.limit()
        if address and self._counts[address] >= max(1, int(ADDRESS_SHARE * limit)):
            return False
        if len(self) >= limit:
            oldest = next(iter(self._idle), None)
            if oldest is None:
                return False
            self.remove(oldest)
            oldest.close()
        self._addresses[connection] = address
        self._counts[address] += 1
        return True

    def remove(self, connection: Closable) -> None:
        """Forgets a connection, if it is known."""
        address = self._addresses.pop(connection, None)
        self._idle.pop(connection, None)
        if address is not None:
            self._counts[address] -= 1
            if not self._counts[address]:
                del self._counts[address]

    def mark_idle(self, connection: Closable) -> None:
        """The connection waits for its next request."""
        if connection in self._addresses:
            self._idle[connection] = None

    def mark_busy(self, connection: Closable) -> None:
        """The connection does so no longer."""
        self._idle.pop(connection, None)
