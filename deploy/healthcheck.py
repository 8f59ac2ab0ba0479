"""Health check of the image: exits with 0 if the server in this container is ready, else with 1 and the reason.

The port is VGG_PORT, or Vertex AI's AIP_HTTP_PORT, or the server's default.
"""

import http.client
import os
import sys

TIMEOUT_S = 4.0  # less than the timeout of 5 s in the Dockerfile's HEALTHCHECK


def main() -> str | None:
    """Returns None if the server is ready, else its answer or the error of the request."""
    port = os.environ.get("VGG_PORT") or os.environ.get("AIP_HTTP_PORT") or "8000"
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/health/ready")
        response = connection.getresponse()
        answer = response.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return f"no answer on port {connection.port}: {error}"
    return None if response.status == http.client.OK else f"{response.status} {answer}"


if __name__ == "__main__":
    sys.exit(main())
