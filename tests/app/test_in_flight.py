"""The counter that draining and reloading wait for."""

import asyncio
from contextlib import suppress

import pytest

from app.in_flight import InFlight

pytestmark = pytest.mark.anyio


async def test_waiting_ends_when_the_last_block_is_left() -> None:
    """Blocks may overlap; an error inside one counts as leaving it."""
    in_flight = InFlight()
    with in_flight:
        waiting = asyncio.ensure_future(in_flight.wait_until_zero())
        with suppress(RuntimeError), in_flight:
            assert in_flight.count == 2
            raise RuntimeError
        await asyncio.sleep(0)
        assert (in_flight.count, waiting.done()) == (1, False)
    await waiting
    assert in_flight.count == 0


async def test_there_is_nothing_to_wait_for_at_first() -> None:
    """Before the first block the count is zero."""
    await InFlight().wait_until_zero()
