"""Query parameters and headers, and their ranges."""

import pytest

from app.errors import InvalidParameter
from app.http.parameters import coverage_of, request_id_of, timeout_of, top_k_of


def test_top_k_is_five_or_all() -> None:
    """Without top_k there are five labels, or as many as there are."""
    assert (top_k_of(None, 10), top_k_of(None, 3)) == (5, 3)


def test_top_k_is_within_the_classes() -> None:
    """1 to the number of classes is allowed, anything else is named with its range."""
    assert (top_k_of("1", 10), top_k_of("10", 10)) == (1, 10)
    for text in ("0", "11", "-1", "1.5", "1e0", "٣", "x", "", "nan", "inf"):
        with pytest.raises(InvalidParameter, match=rf"top_k is '{text}', .* 1\.\.10"):
            top_k_of(text, 10)


@pytest.mark.parametrize("text", ["0", "1", "-0.5", "2", "nan", "inf", "x", ""])
def test_coverage_lies_between_zero_and_one(text: str) -> None:
    """A coverage of 0 or 1, beyond, or not a number is refused."""
    with pytest.raises(InvalidParameter, match=f"coverage is '{text}'"):
        coverage_of(text, calibrated=True)


def test_coverage_needs_calibration() -> None:
    """No prediction set is promised by a checkpoint that was not calibrated."""
    assert coverage_of(None, calibrated=False) is None
    assert coverage_of("0.9", calibrated=True) == 0.9
    with pytest.raises(InvalidParameter, match="no calibration"):
        coverage_of("0.9", calibrated=False)


def test_a_timeout_is_cut_to_the_limit() -> None:
    """A caller may ask for less time than the server's limit, not for more."""
    assert (timeout_of(None, 30.0), timeout_of("2.5", 30.0), timeout_of("60", 30.0)) == (30.0, 2.5, 30.0)


@pytest.mark.parametrize("header", ["0", "-1", "nan", "inf", "soon", ""])
def test_a_timeout_is_a_positive_finite_number(header: str) -> None:
    """Any other X-Request-Timeout is refused."""
    with pytest.raises(InvalidParameter, match="X-Request-Timeout"):
        timeout_of(header, 30.0)


def test_a_sane_request_id_is_kept() -> None:
    """Letters, digits, dot, underscore and hyphen, up to 128 of them."""
    assert request_id_of("a.B_c-1") == "a.B_c-1"
    assert request_id_of("x" * 128) == "x" * 128


@pytest.mark.parametrize("header", [None, "", "x" * 129, "a b", "a\n", "ü", "<script>"])
def test_any_other_request_id_is_replaced(header: str | None) -> None:
    """What could break a log line or a header is not repeated."""
    fresh = request_id_of(header)
    assert fresh != header
    assert request_id_of(fresh) == fresh
