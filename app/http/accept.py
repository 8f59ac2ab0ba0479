"""Content negotiation: which of two media types a caller would rather have (RFC 9110, section 12.5.1)."""

import re
from collections.abc import Iterable

_WEIGHT = re.compile(r"q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE)
REFUSED = (0.0, -1)


def prefers(headers: Iterable[str], wanted: str, usual: str) -> bool:
    """Whether the caller's Accept `headers` prefer the media type `wanted` to `usual`.

    The higher weight decides. If both have the same weight, the type that is named more exactly is preferred, so
    `application/json, */*` prefers JSON. Without a header, and where all is equal, it is `usual`.
    """
    ranges = [_parse(part) for header in headers for part in header.lower().split(",")]
    return _rate(ranges, wanted) > _rate(ranges, usual)


def _parse(part: str) -> tuple[str, float]:
    """The range and its weight, which is 1 where it is missing or cannot be read."""
    media_range, *parameters = (piece.strip() for piece in part.split(";"))
    weights = [match[1] for parameter in parameters if (match := _WEIGHT.fullmatch(parameter))]
    return media_range, float(weights[0]) if weights else 1.0


def _rate(ranges: list[tuple[str, float]], media_type: str) -> tuple[float, int]:
    """The weight of the most exact range that holds the type, and how exact it is. Of equal ranges the first counts."""
    for exactness, name in ((2, media_type), (1, media_type.partition("/")[0] + "/*"), (0, "*/*")):
        for media_range, weight in ranges:
            if media_range == name:
                return (weight, exactness) if weight else REFUSED
    return REFUSED
