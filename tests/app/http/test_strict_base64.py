"""Strict base64, whatever the slices."""

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http.strict_base64 import Base64Decoder
from tests.fakes.bodies import cut

WHOLE = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def decode(*slices: str) -> bytes:
    decoder = Base64Decoder()
    for text in slices:
        decoder.feed(text)
    decoder.close()
    return b"".join(decoder.pieces)


@pytest.mark.parametrize(
    "text", ["MTIz", "MT\nIz", "MTI\r\nz\n", "\nMTIz", "data:image/png;base64,MTIz", "DATA:;x=y;BASE64,MTIz"]
)
def test_line_breaks_and_the_head_of_a_uri_are_passed_over(text: str) -> None:
    """Base64 may have line breaks, and may be a data: URI."""
    assert decode(text) == b"123"


@pytest.mark.parametrize(
    ("slices", "clause"),
    [
        (["MT z"], "has ' ' at position 2, which is not of the base64 alphabet"),
        (["MTIz", "M\tIz"], r"has '\\t' at position 5"),
        (["MT\n-z"], "has '-' at position 3"),
        (["MTIz "], "has ' ' at position 4"),
        (["MTI", "_"], "has '_' at position 3"),
        (["MTIz", "ü"], "has 'ü' at position 4"),
        (["data:;base64,M!=="], "has '!' at position 14"),
        (["MT=z"], 'has "=" at position 2, where no padding belongs'),
        (["MT=", "=MTIz"], 'has "=" at position 2'),
        (["MT==", "MTIz"], 'has "=" at position 2'),
        (["MT==="], 'lacks the "="'),
        (["===="], 'has "=" at position 0'),
        (["MTI"], 'lacks the "="'),
        (["MTIzM"], 'lacks the "="'),
        (["data:image/png,MTIz"], 'is a "data:" URI whose head does not end with ";base64,"'),
        (["data:" + "x" * 2000 + ";base64,MTIz"], "URI whose head"),
    ],
)
def test_anything_else_is_refused(slices: list[str], clause: str) -> None:
    """The error says which character is wrong, and where."""
    with pytest.raises(ValueError, match=clause):
        decode(*slices)


@given(
    text=st.text(st.sampled_from("AZaz09+/==\r\n -_ü"), max_size=24)
    | st.binary(max_size=24).map(lambda b: base64.b64encode(b).decode()),
    sizes=st.lists(st.integers(0, 9), max_size=6),
)
def test_slices_do_not_matter(text: str, sizes: list[int]) -> None:
    """In any slices a text is decoded as the standard library decodes it whole, or refused if it is not strict."""
    slices = [piece.decode("utf-32-le") for piece in cut(text.encode("utf-32-le"), [4 * size for size in sizes])]
    plain = text.replace("\r", "").replace("\n", "")
    if WHOLE.fullmatch(plain):
        assert decode(*slices) == base64.b64decode(plain)
    else:
        with pytest.raises(ValueError, match=r"position|is cut off"):
            decode(*slices)
