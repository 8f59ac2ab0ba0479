"""The sockets that the server listens on.

They are bound before anything is loaded: a port that is taken is told at once.
"""

import errno
import socket
from contextlib import ExitStack

BACKLOG = 2048  # connections that the kernel keeps for the server; the system's own limit is often 4,096
NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # the machine has no IPv6, for example


def open_listeners(host: str, port: int) -> list[socket.socket]:
    """Listens on every address of `host`, on one port. `::` is every address of IPv6 and IPv4.

    With port 0 the system chooses one. Raises OSError.
    """
    if host == "::" and socket.has_dualstack_ipv6():
        return [socket.create_server((host, port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)]
    listeners: list[socket.socket] = []
    missing: list[OSError] = []
    with ExitStack() as stack:
        for family, address in sorted(_find_addresses(host)):
            try:
                listener = stack.enter_context(socket.create_server((address, port), family=family, backlog=BACKLOG))
            except OSError as error:
                if error.errno not in NOT_HERE:
                    raise
                missing.append(error)
            else:
                listeners.append(listener)
                port = listener.getsockname()[1]
        stack.pop_all()
    if not listeners:
        raise missing[0]
    return listeners


def _find_addresses(host: str) -> set[tuple[socket.AddressFamily, str]]:
    found = socket.getaddrinfo(host or None, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return {(family, str(address[0])) for family, _, _, _, address in found}
