"""The sockets that the server listens on."""

import socket

import pytest

from app.listening import open_listeners

HAS_IPV6 = socket.has_dualstack_ipv6()


def connects(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as client:
        return client.connect_ex((host, port)) == 0


@pytest.mark.skipif(not HAS_IPV6, reason="no IPv6")
@pytest.mark.parametrize(
    ("host", "answers"), [("::", {"127.0.0.1", "::1"}), ("::1", {"::1"}), ("127.0.0.1", {"127.0.0.1"})]
)
def test_an_address_listens_where_it_says(host: str, answers: set[str]) -> None:
    """`::` is every address of both versions, on the same free port, and others are themselves alone."""
    listeners = open_listeners(host, 0)
    try:
        port = listeners[0].getsockname()[1]
        assert {client for client in ("127.0.0.1", "::1") if connects(client, port)} == answers
    finally:
        for listener in listeners:
            listener.close()


def test_a_name_listens_on_all_its_addresses() -> None:
    """With port 0 all of them get the same port."""
    listeners = open_listeners("localhost", 0)
    for listener in listeners:
        listener.close()
    assert len({listener.family for listener in listeners}) == len(listeners)


def test_a_port_in_use_is_an_error() -> None:
    """So is a name that does not exist."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        open_listeners("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(OSError, match=r"known|found|resolution"):
        open_listeners("no.such.host.invalid", 0)
