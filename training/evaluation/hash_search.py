"""Pairs of 64-bit hashes that differ in few bits, without comparing all of them.

Owns the search by bands of bits (multi-index hashing, Norouzi et al., arXiv 1307.2982).
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]

BANDS = 8  # of a byte each
MAX_DISTANCE = BANDS - 1
MAX_COMPARED = 1_024  # neighbours of a hash in a band; bounds the time where very many hashes share a byte


def find_close_pairs(
    hashes: Hashes, distance: int, max_compared: int = MAX_COMPARED
) -> Iterator[tuple[Indices, Indices]]:
    """Yields pairs of rows (P,), (P,) of (N,) hashes that differ in at most `distance` of the 64 bits, in chunks.

    The first row of a pair is the smaller one. A pair may come more than once. Two hashes that differ in at most 7 bits
    have at least one of their eight bytes in common. So for each byte the hashes are sorted by it, and only those with
    the same value are compared. A chunk has at most N pairs. If more than `max_compared` hashes share a byte, each is
    compared with that many which follow it in the order of the whole hashes, and a pair that shares no other byte can
    be missed. The first of all rows with the same hash is paired with each of the others in any case. Raises ValueError
    if `distance` is not in 0..7.
    """
    if not 0 <= distance <= MAX_DISTANCE:
        raise ValueError(f"distance is {distance}, but must lie in 0..{MAX_DISTANCE}")
    _, first_of, group = np.unique(hashes, return_index=True, return_inverse=True)
    firsts = first_of[group]
    if len(repeated := np.flatnonzero(firsts < np.arange(len(hashes)))):
        yield firsts[repeated], repeated
    for band in range(BANDS):
        turned = (hashes << np.uint64(8 * band)) | (hashes >> np.uint64((64 - 8 * band) % 64))
        order = np.argsort(turned, kind="stable")  # the band is now the highest byte, so equal bands are neighbours
        band_of, ordered = turned[order] >> np.uint64(56), hashes[order]
        ends = np.searchsorted(band_of, band_of, side="right")  # where the group of each position ends
        positions = np.arange(len(hashes))
        for offset in range(1, max_compared + 1):
            positions = positions[positions + offset < ends[positions]]
            if not len(positions):
                break
            differing = np.bitwise_count(ordered[positions] ^ ordered[positions + offset])
            close = positions[differing <= distance]
            if len(close):
                one, other = order[close], order[close + offset]
                yield np.minimum(one, other), np.maximum(one, other)
