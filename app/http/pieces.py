"""One bytes object from the pieces in which it arrived, without holding up the event loop."""

import asyncio
from collections.abc import Sequence

# To copy 32 MiB takes some milliseconds. From 1 MiB on, bytes.join copies without Python's global lock.
PAUSE_BYTES, THREAD_BYTES = 2**17, 2**20


async def join_pieces(pieces: Sequence[bytes]) -> bytes:
    """The pieces one after the other. A single piece is returned as it is."""
    size = sum(map(len, pieces))
    if size >= THREAD_BYTES and len(pieces) > 1:
        return await asyncio.to_thread(b"".join, pieces)
    if size >= PAUSE_BYTES:  # for callers that join many of them
        await asyncio.sleep(0)
    return b"".join(pieces)
