"""Content negotiation, by the examples of RFC 9110 and by what clients send."""

import pytest

from app.http.accept import prefers


@pytest.mark.parametrize(
    ("header", "right"),
    [
        ("application/json", True),
        ("APPLICATION/JSON", True),
        ("application/json, text/plain, */*", True),
        ("application/*", True),
        ("application/json;q=0.5, image/png;q=0.4", True),
        ("image/*;q=0.5, application/json; q=0.9", True),
        ("application/json;charset=utf-8;q=1", True),
        ("image/png;q=0, */*", True),
        ("", False),
        ("*/*", False),
        ("image/png", False),
        ("text/html", False),
        ("image/png, application/json", False),
        ("image/*, application/*", False),
        ("application/json;q=0.4, image/png;q=0.5", False),
        ("application/json;q=0.4, */*;q=0.5", False),
        ("application/json;q=0", False),
        ("image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5", False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        (",;,=;q=", False),
    ],
)
def test_json_or_a_picture(header: str, right: bool) -> None:
    """JSON has to be preferred to the picture; equal wishes and none get the picture."""
    assert prefers([header], "application/json", "image/png") is right


def test_several_headers_are_one_list() -> None:
    """RFC 9110, section 5.3. Without any header, all is equal."""
    assert prefers(["image/png;q=0.5", "application/json"], "application/json", "image/png")
    assert not prefers([], "application/json", "image/png")
