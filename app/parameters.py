"""What a caller may ask for besides the images: query parameters and headers, and their ranges.

Owns their checks; every fault names the parameter, its value and the range. Knows nothing of routes.
"""

import math
import re
import uuid

from app.errors import InvalidParameter

DEFAULT_TOP_K = 5
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def top_k_of(value: int | None, classes: int) -> int:
    """`value`, or 5 or the number of classes if that is smaller. Raises InvalidParameter."""
    if value is None:
        return min(DEFAULT_TOP_K, classes)
    if not 1 <= value <= classes:
        raise InvalidParameter(f"top_k is {value}, but must lie in 1..{classes}.")
    return value


def check_coverage(value: float | None, *, calibrated: bool) -> None:
    """Raises InvalidParameter for a coverage that is not above 0 and below 1, or cannot be promised."""
    if value is None:
        return
    if not 0 < value < 1:
        raise InvalidParameter(f"coverage is {value}, but must lie above 0 and below 1.")
    if not calibrated:
        raise InvalidParameter(
            f"coverage is {value}, but this checkpoint has no calibration to take prediction sets from."
        )


def timeout_of(header: str | None, limit_seconds: float) -> float:
    """Seconds from `X-Request-Timeout`, cut to the server's own limit. Raises InvalidParameter."""
    if header is None:
        return limit_seconds
    try:
        seconds = float(header)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InvalidParameter(f"X-Request-Timeout is {header!r}, but must be a positive, finite number of seconds.")
    return min(seconds, limit_seconds)


def request_id_of(header: str | None) -> str:
    """The caller's `X-Request-ID` if it is a sane one, else a fresh one."""
    return header if header is not None and REQUEST_ID.fullmatch(header) else uuid.uuid4().hex
