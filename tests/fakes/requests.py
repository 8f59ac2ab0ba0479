"""The requests of `tests/data/requests.txt`."""

from pathlib import Path

FILE = Path(__file__).parents[1] / "data" / "requests.txt"


def read_requests() -> list[tuple[list[int], bytes]]:
    """Each line's right statuses, none for an unfinished request, and its bytes, which are escaped as in Python."""
    found = []
    for line in FILE.read_text("ascii").splitlines():
        statuses, text = line.split("\t")
        right = [] if statuses == "-" else [int(status) for status in statuses.split(",")]
        found.append((right, text.encode("ascii").decode("unicode_escape").encode("latin-1")))
    return found
