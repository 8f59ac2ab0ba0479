"""Who may ask: API keys.

Owns reading the keys from a request and comparing them.
"""

import hmac
from collections.abc import Iterator, Sequence

from starlette.requests import Request

from app.errors import Unauthorized
from app.keys import hash_key

MAX_GIVEN = 8  # keys that are read from one request: each is compared with every known one


def check_key(request: Request, known: Sequence[bytes]) -> None:
    """Raises Unauthorized unless `known`, which has the keys' hashes, is empty or the request carries one of the keys.

    A key comes as `Authorization: Bearer KEY` (RFC 6750) or `X-API-Key: KEY`. Of several headers any may hold the right
    one. Every key is compared with all that are known, in constant time, so that timing reveals nothing.
    """
    if not known:
        return
    given = list(_read_keys(request))
    if not given:
        raise Unauthorized("The request needs an API key, as Authorization: Bearer KEY or as X-API-Key: KEY.")
    if len(given) > MAX_GIVEN:
        raise Unauthorized(f"The request carries {len(given)} API keys, more than the allowed {MAX_GIVEN}.")
    hashes = [hash_key(key) for key in given]
    matches = [hmac.compare_digest(one, other) for one in hashes for other in known]
    if not any(matches):
        raise Unauthorized("The API key is not known.")


def _read_keys(request: Request) -> Iterator[str]:
    for value in request.headers.getlist("authorization"):
        scheme, _, token = value.strip().partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            yield token.strip()
    for value in request.headers.getlist("x-api-key"):
        if value.strip():
            yield value.strip()
