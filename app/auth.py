"""Who may ask: API keys.

Owns reading the key from a request and comparing it.
"""

import hashlib
import hmac
from collections.abc import Sequence

from starlette.requests import Request

from app.errors import Unauthorized


def check_key(request: Request, keys: Sequence[str]) -> None:
    """Raises Unauthorized unless `keys` is empty or the request carries one of them.

    The key comes as `Authorization: Bearer KEY` (RFC 6750) or `X-API-Key: KEY`. Every known key is
    compared, as hashes of one length and in constant time, so that timing reveals nothing.
    """
    if not keys:
        return
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    given = token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
    if not given:
        raise Unauthorized("The request needs an API key, as Authorization: Bearer KEY or as X-API-Key: KEY.")
    matches = [hmac.compare_digest(_digest(given), _digest(key)) for key in keys]
    if not any(matches):
        raise Unauthorized("The API key is not known.")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
