"""The search for hashes that differ in few bits, compared with all pairs."""

import numpy as np
import pytest

from training.evaluation.hash_search import Hashes, find_close_pairs


def draw_hashes(count: int, centres: int, flips: int, seed: int) -> Hashes:
    """Hashes near some centres: each differs from its centre in at most `flips` bits."""
    generator = np.random.default_rng(seed)
    middles = generator.integers(0, 2**64, centres, dtype=np.uint64)
    hashes = middles[generator.integers(0, centres, count)]
    for _ in range(flips):
        hashes = hashes ^ (np.uint64(1) << generator.integers(0, 64, count, dtype=np.uint64))
    return hashes


def all_close_pairs(hashes: Hashes, distance: int) -> set[tuple[int, int]]:
    differing = np.bitwise_count(hashes[:, None] ^ hashes[None])
    return {(int(i), int(j)) for i, j in zip(*np.nonzero(differing <= distance), strict=True) if i < j}


def search(hashes: Hashes, distance: int, **settings: int) -> set[tuple[int, int]]:
    chunks = find_close_pairs(hashes, distance, **settings)
    return {(int(i), int(j)) for one, other in chunks for i, j in zip(one, other, strict=True)}


@pytest.mark.parametrize("distance", [0, 3, 7])
@pytest.mark.parametrize("flips", [0, 1, 4])
def test_the_pairs_are_those_of_comparing_all(distance: int, flips: int) -> None:
    """This holds for any bits that differ, and the smaller row of a pair is first."""
    hashes = draw_hashes(400, 60, flips, seed=flips)
    expected = all_close_pairs(hashes, distance)
    assert search(hashes, distance) == expected
    assert expected or distance < flips


def test_few_are_compared_where_all_share_a_byte() -> None:
    """Each row still has a partner before it, and a chunk is never larger than the number of rows."""
    hashes = draw_hashes(3_000, 1, 0, seed=0)
    chunks = list(find_close_pairs(hashes, 7, max_compared=2))
    assert len(chunks) == 1 + 8 * 2
    assert max(len(one) for one, _ in chunks) < 3_000
    assert {(0, j) for j in range(1, 3_000)} <= search(hashes, 7, max_compared=2)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_hashes_have_no_pairs(count: int) -> None:
    """Nothing fails without hashes."""
    assert search(np.zeros(count, dtype=np.uint64), 7) == set()


@pytest.mark.parametrize("distance", [-1, 8])
def test_a_distance_beyond_the_bands_is_refused(distance: int) -> None:
    """With eight bits that differ, no byte needs to be the same."""
    with pytest.raises(ValueError, match=rf"distance is {distance}, but must lie in 0\.\.7"):
        list(find_close_pairs(np.zeros(2, dtype=np.uint64), distance))
