"""The memory of request bodies: limits, clients, and images that outlive their request."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from app.errors import QueueFull
from app.memory import BodyMemory


def test_all_bodies_together_are_bounded() -> None:
    """What does not fit beside the other bodies is refused and not counted."""
    memory = BodyMemory(100, 100)
    with memory.reserve("10.0.0.1") as first, memory.reserve("10.0.0.2") as second:
        first.add(60)
        second.add(40)
        with pytest.raises(QueueFull, match="100 bytes") as refusal:
            second.add(1)
        assert refusal.value.headers["Retry-After"] == "1"
        assert memory.used_bytes == 100
    assert memory.used_bytes == 0


def test_one_client_has_a_part_of_it() -> None:
    """A client's requests together have a limit of their own, which others do not feel."""
    memory = BodyMemory(100, 50)
    with memory.reserve("10.0.0.1") as first, memory.reserve("10.0.0.1") as second, memory.reserve("10.0.0.2") as other:
        first.add(30)
        second.add(20)
        with pytest.raises(QueueFull, match="this client's requests together exceed 50 bytes"):
            second.add(1)
        other.add(50)
    assert memory.used_bytes == 0


@pytest.mark.parametrize(
    ("one", "another", "are_same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        (None, None, True),
        ("", None, True),
        ("testclient", "10.0.0.1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("a:b", "a:c", False),
    ],
)
def test_a_client_is_an_address_or_a_network(one: str | None, another: str | None, are_same: bool) -> None:
    """IPv4 addresses are told apart, IPv6 addresses by their network of 64 bits, and Unix sockets not at all."""
    memory = BodyMemory(100, 50)
    with memory.reserve(one) as first, memory.reserve(another) as second:
        first.add(50)
        if are_same:
            with pytest.raises(QueueFull):
                second.add(1)
        else:
            second.add(50)


def test_a_share_outlives_the_request() -> None:
    """The bytes that another holds stay counted after the request, and count for its client, until it releases them."""
    memory = BodyMemory(100, 50)
    with memory.reserve("10.0.0.1") as reservation:
        reservation.add(50)
        held, other = reservation.split([30, 10])
        assert memory.used_bytes == 40  # what is in no share is freed
        held.hold()
        assert other.size == 10
    assert memory.used_bytes == 30
    with memory.reserve("10.0.0.1") as reservation, pytest.raises(QueueFull):
        reservation.add(21)
    held.release()
    assert memory.used_bytes == 0


def test_a_share_may_be_released_before_the_request_ends() -> None:
    """The request is a holder too, so it does not matter who is the last."""
    memory = BodyMemory(100, 100)
    with memory.reserve(None) as reservation:
        reservation.add(50)
        (share,) = reservation.split([50])
        share.hold()
        share.release()
        assert memory.used_bytes == 50
    assert memory.used_bytes == 0


def test_shares_have_no_more_than_was_added() -> None:
    """Shares that are larger than the body are a mistake of the caller."""
    memory = BodyMemory(100, 100)
    with memory.reserve(None) as reservation:
        reservation.add(10)
        with pytest.raises(ValueError, match="have 11 bytes, but must not exceed 10"):
            reservation.split([5, 6])
    assert memory.used_bytes == 0


def test_threads_release_shares() -> None:
    """Holders in several threads lose no byte."""
    memory = BodyMemory(10**6, 10**6)
    with ThreadPoolExecutor(4) as threads:
        for _ in range(100):
            with memory.reserve("10.0.0.1") as reservation:
                reservation.add(100)
                for share in reservation.split([1] * 100):
                    share.hold()
                    threads.submit(share.release)
    assert memory.used_bytes == 0


def test_a_client_that_has_gone_leaves_nothing() -> None:
    """Addresses are not gathered: there may be millions."""
    memory = BodyMemory(100, 100)
    for number in range(1_000):
        with memory.reserve(f"10.0.{number // 256}.{number % 256}") as reservation:
            reservation.add(1)
    with memory.reserve("10.1.0.0"):
        pass
    assert memory.client_count == 0
