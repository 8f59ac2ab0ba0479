"""What a caller may ask for besides the images: query parameters and headers, and their ranges.

Owns their checks; every fault names the parameter, its value and the range.
"""

import math
import random
import re
from typing import Any

from pydantic import TypeAdapter, ValidationError

from app.errors import InvalidParameter

DEFAULT_TOP_K = 5
INTEGER, NUMBER = TypeAdapter(int), TypeAdapter(float)  # what FastAPI reads parameters with
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def top_k_of(text: str | None, classes: int) -> int:
    """The integer in `text`, or 5 or the number of classes if that is smaller. Raises InvalidParameter."""
    if text is None:
        return min(DEFAULT_TOP_K, classes)
    value = _parsed(INTEGER, text)
    if not 1 <= value <= classes:
        raise InvalidParameter(f"top_k is {text!r}, but must be an integer in 1..{classes}.")
    return int(value)


def coverage_of(text: str | None, *, calibrated: bool) -> float | None:
    """The number in `text`, above 0 and below 1. Raises InvalidParameter for others, and if it cannot be promised."""
    if text is None:
        return None
    value = _parsed(NUMBER, text)
    if not 0 < value < 1:
        raise InvalidParameter(f"coverage is {text!r}, but must lie above 0 and below 1.")
    if not calibrated:
        raise InvalidParameter(
            f"coverage is {text!r}, but this checkpoint has no calibration to take prediction sets from."
        )
    return value


def timeout_of(header: str | None, limit_seconds: float) -> float:
    """Seconds from `X-Request-Timeout`, cut to the server's own limit. Raises InvalidParameter."""
    if header is None:
        return limit_seconds
    seconds = _parsed(NUMBER, header)
    if not 0 < seconds < math.inf:
        raise InvalidParameter(f"X-Request-Timeout is {header!r}, but must be a positive, finite number of seconds.")
    return min(seconds, limit_seconds)


def request_id_of(header: str | None) -> str:
    """The caller's `X-Request-ID` if it is a sane one, else a fresh one."""
    return header if header is not None and REQUEST_ID.fullmatch(header) else f"{random.getrandbits(128):032x}"


def _parsed(kind: TypeAdapter[Any], text: str) -> float:
    """NaN for what is not of that kind, which lies in no range."""
    try:
        value: float = kind.validate_python(text)
    except ValidationError:
        return math.nan
    return value
