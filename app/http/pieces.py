"""One bytes object from the pieces in which it arrived, without holding up the event loop."""

import asyncio
from collections.abc import Sequence

# From this size on, bytes.join copies without Python's global lock. To copy 32 MiB takes some milliseconds.
LARGE_BYTES = 2**20


async def join_pieces(pieces: Sequence[bytes]) -> bytes:
    """The pieces one after the other. A single piece is returned as it is."""
    if sum(map(len, pieces)) < LARGE_BYTES:
        return b"".join(pieces)
    return await asyncio.to_thread(b"".join, pieces)
