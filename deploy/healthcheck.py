"""Exits 0 when the server in this container is ready, else 1 with the reason as one line.

The image's HEALTHCHECK. Knows the port from VGG_PORT and nothing else of the server.
"""

import http.client
import os
import sys

TIMEOUT_S = 4.0  # under the five seconds after which the container engine gives up


def main() -> str | None:
    """None when the server says that it is ready; else what it says, or why it cannot be asked."""
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ["VGG_PORT"]), timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/health/ready")
        response = connection.getresponse()
        answer = response.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return f"no answer on port {connection.port}: {error}"
    return None if response.status == http.client.OK else f"{response.status} {answer}"


if __name__ == "__main__":
    sys.exit(main())
