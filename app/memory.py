"""The memory that request bodies take, all of them together.

A limit on one body does not limit how many bodies are in memory at the same time.
"""

import ipaddress
from collections import deque
from collections.abc import Iterable
from typing import Self

from app.errors import QueueFull

IPV6_NETWORK_BITS = 64  # one client usually has the whole network


class BodyMemory:
    """The bytes of all bodies in memory, and of each client's bodies. Used on the event loop alone.

    All bodies together may have `limit_bytes`, those of one client `client_limit_bytes`.
    """

    def __init__(self, limit_bytes: int, client_limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.client_limit_bytes = client_limit_bytes
        self._used_bytes = 0
        self._used_by: dict[str, int] = {}  # only of clients that have bodies in memory: there may be millions
        self._released: deque[Share] = deque()  # by any thread; counted when the event loop looks at them

    @property
    def used_bytes(self) -> int:
        """The bytes of all bodies in memory."""
        self._count_released()
        return self._used_bytes

    @property
    def client_count(self) -> int:
        """How many clients have bodies in memory."""
        self._count_released()
        return len(self._used_by)

    def reserve(self, client_address: str | None) -> "Reservation":
        """An empty reservation for one request. It grows while the request's body arrives.

        Requests without an address, as those of a Unix socket, count as one client.
        """
        return Reservation(self, _client(client_address))

    def add(self, client: str, received_bytes: int) -> None:
        """Raises QueueFull if a limit would be exceeded."""
        self._count_released()
        if self._used_bytes + received_bytes > self.limit_bytes:
            raise QueueFull(f"The bodies of all requests together exceed {self.limit_bytes} bytes.", retry_after=1)
        used_by_client = self._used_by.get(client, 0) + received_bytes
        if used_by_client > self.client_limit_bytes:
            limit = self.client_limit_bytes
            raise QueueFull(f"The bodies of this client's requests together exceed {limit} bytes.", retry_after=1)
        self._used_bytes += received_bytes
        self._used_by[client] = used_by_client

    def remove(self, client: str, freed_bytes: int) -> None:
        """Gives back bytes that were added."""
        if freed_bytes:
            self._used_bytes -= freed_bytes
            self._used_by[client] -= freed_bytes
            if not self._used_by[client]:
                del self._used_by[client]

    def release(self, share: "Share") -> None:
        """Removes a holder of a share. Any thread may call it: a deque's `append` needs no lock."""
        self._released.append(share)

    def _count_released(self) -> None:
        while self._released:
            share = self._released.popleft()
            share.holders -= 1
            if not share.holders:
                self.remove(share.client, share.size)


class Reservation:
    """The bytes of one request's body. Used on the event loop alone.

    `split` divides them into a `Share` for each image. At the end of the `with` block the request gives up its hold on
    every share. A share stays counted while somebody else holds it.

    How to hand an image's bytes on, for example to a thread:

        share.hold()            # on the event loop, before the request ends
        ...
        share.release()         # on any thread, once the bytes have been dropped there, whatever has happened
    """

    def __init__(self, memory: BodyMemory, client: str) -> None:
        self._memory = memory
        self._client = client
        self._bytes = 0  # that are in no share
        self._shares: list[Share] = []

    def add(self, received_bytes: int) -> None:
        """Raises QueueFull if all bodies together, or this client's, would exceed their limit."""
        self._memory.add(self._client, received_bytes)
        self._bytes += received_bytes

    def split(self, sizes: Iterable[int]) -> "list[Share]":
        """A share of each size in bytes, together at most what was added. The rest is no longer counted."""
        shares = [Share(self._memory, self._client, size) for size in sizes]
        rest = self._bytes - sum([share.size for share in shares])
        if rest < 0:
            raise ValueError(f"the shares have {self._bytes - rest} bytes, but must not exceed {self._bytes}")
        self._memory.remove(self._client, rest)
        self._bytes = 0
        self._shares += shares
        return shares

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._memory.remove(self._client, self._bytes)
        self._bytes = 0
        while self._shares:
            self._shares.pop().release()


class Share:
    """The bytes of one image, counted until the last holder releases them. The request is the first holder."""

    __slots__ = ("_memory", "client", "holders", "size")

    def __init__(self, memory: BodyMemory, client: str, size: int) -> None:
        self._memory = memory
        self.client = client
        self.size = size
        self.holders = 1

    def hold(self) -> None:
        """Adds a holder. Called on the event loop while there is another one."""
        self.holders += 1

    def release(self) -> None:
        """Removes a holder. Any thread may call it; each holder does once."""
        self._memory.release(self)


def _client(address: str | None) -> str:
    """What is counted as one client: an IPv4 address, or an IPv6 network."""
    if address is None or ":" not in address:
        return address or ""
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:  # as a socket for both versions shows IPv4 addresses
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed), IPV6_NETWORK_BITS), strict=False))
