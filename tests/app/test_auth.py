"""Keys in requests."""

import pytest
from starlette.requests import Request

from app.auth import MAX_GIVEN, check_key
from app.errors import Unauthorized
from app.keys import hash_key

KNOWN = tuple(map(hash_key, ("old", "new")))


def request(*headers: tuple[str, str]) -> Request:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    return Request({"type": "http", "headers": raw})


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", "Bearer new")],
        [("authorization", "bearer  old ")],
        [("x-api-key", "old")],
        [("authorization", "Bearer wrong"), ("x-api-key", "new")],
        [("authorization", "Bearer new"), ("x-api-key", "wrong")],
        [("authorization", "Basic b2xkOg=="), ("authorization", "Bearer new")],
        [("authorization", "Bearer wrong"), ("authorization", "Bearer new")],
        [("x-api-key", "wrong"), ("x-api-key", "new")],
    ],
)
def test_any_right_key_opens(headers: list[tuple[str, str]]) -> None:
    """A wrong key beside a right one, as a proxy may add it, does not matter."""
    check_key(request(*headers), KNOWN)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "Bearer")],
        [("authorization", "Basic new")],
        [("authorization", "new")],
        [("x-api-key", "new2")],
        [("x-api-key", "old,new")],
        [("x-api-key", "\xfc")],
        [("x-api-key", "wrong")] * MAX_GIVEN + [("x-api-key", "new")],
    ],
)
def test_everything_else_is_refused(headers: list[tuple[str, str]]) -> None:
    """No key, a wrong one and another scheme get 401, which names the scheme that opens."""
    with pytest.raises(Unauthorized) as error:
        check_key(request(*headers), KNOWN)
    assert error.value.headers == {"WWW-Authenticate": "Bearer"}


def test_without_keys_all_may_call() -> None:
    """An open server asks for none."""
    check_key(request(), ())
