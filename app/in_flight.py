"""A counter of the requests that are being answered."""

import asyncio


class InFlight:
    """Counts the `with` blocks that are entered and not yet left. Used on the event loop alone."""

    def __init__(self) -> None:
        self.count = 0
        self._zero = asyncio.Event()
        self._zero.set()

    def __enter__(self) -> None:
        self.count += 1
        self._zero.clear()

    def __exit__(self, *_: object) -> None:
        self.count -= 1
        if not self.count:
            self._zero.set()

    async def wait_until_zero(self) -> None:
        """Returns once no block is entered."""
        await self._zero.wait()
