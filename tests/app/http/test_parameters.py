"""Query parameters and headers, and their ranges."""

import pytest
from starlette.datastructures import QueryParams

from app.errors import InvalidParameter
from app.http.openapi import document_parameters
from app.http.parameters import PREDICT_SCHEMAS, PredictQuery, choose_request_id, read_predict_query, read_timeout


def read_query(classes: int = 10, *, calibrated: bool = True, **parameters: str) -> PredictQuery:
    return read_predict_query(QueryParams(parameters), classes, calibrated=calibrated)


def test_top_k_is_five_or_all() -> None:
    """Without top_k there are five labels, or all labels if the model has fewer than five."""
    for query in (read_query(), read_query(coverage="0.9")):
        assert (query.count_top_labels(10), query.count_top_labels(3)) == (5, 3)


def test_top_k_is_within_the_classes() -> None:
    """1 to the number of classes is allowed. The error for any other value names the value and the range."""
    assert [read_query(top_k=text).count_top_labels(10) for text in ("1", "10")] == [1, 10]
    for text in ("0", "11", "-1", "1.5", "1e0", "٣", "x", "", "nan", "inf"):
        with pytest.raises(InvalidParameter, match=rf"top_k is '{text}', .* an integer at least 1 and at most 10"):
            read_query(top_k=text)


@pytest.mark.parametrize("text", ["0", "1", "-0.5", "2", "nan", "inf", "x", ""])
def test_coverage_lies_between_zero_and_one(text: str) -> None:
    """A coverage that is not a number above 0 and below 1 is refused."""
    with pytest.raises(InvalidParameter, match=f"coverage is '{text}', .* a number above 0 and below 1"):
        read_query(coverage=text)


def test_coverage_needs_calibration() -> None:
    """A coverage is refused if the checkpoint has no calibration."""
    assert read_query(calibrated=False).coverage is None
    assert read_query(coverage="0.9").coverage == 0.9
    with pytest.raises(InvalidParameter, match=r"coverage is '0\.9', .* no calibration"):
        read_query(calibrated=False, coverage="0.9")


@pytest.mark.parametrize("text", ["0", "1", "-0.5", "2", "nan", "inf", "1e-400", "x", ""])
def test_a_largest_error_lies_between_zero_and_one(text: str) -> None:
    """A largest error that is not a number above 0 and below 1 is refused."""
    with pytest.raises(InvalidParameter, match=f"max_error is '{text}', .* a number above 0 and below 1"):
        read_predict_query(QueryParams({"max_error": text}), 10, calibrated=True, decides=True)


def test_a_largest_error_needs_decisions() -> None:
    """It is refused if the checkpoint has a calibration from before there were decisions, or none."""
    query = QueryParams({"max_error": "0.05"})
    assert read_predict_query(query, 10, calibrated=True, decides=True).max_error == 0.05
    for calibrated in (True, False):
        with pytest.raises(InvalidParameter, match=r"max_error is '0\.05', .* no calibration for decisions"):
            read_predict_query(query, 10, calibrated=calibrated)


def test_coverage_of_each_label_needs_its_tables_and_a_coverage() -> None:
    """per_class is refused without a coverage, for a checkpoint without tables by class, and if it is no boolean."""
    query = QueryParams("coverage=0.9&per_class=true")
    assert read_predict_query(query, 10, calibrated=True, by_class=True).per_class
    assert not read_query(coverage="0.9").per_class
    assert not read_query(per_class="false").per_class
    with pytest.raises(InvalidParameter, match=r"per_class is 'true', .* no calibration of each label"):
        read_predict_query(query, 10, calibrated=True)
    with pytest.raises(InvalidParameter, match="per_class is 'true', but there is no coverage"):
        read_predict_query(QueryParams("per_class=true"), 10, calibrated=True, by_class=True)
    with pytest.raises(InvalidParameter, match="per_class is 'maybe', but must be true or false"):
        read_query(per_class="maybe")


def test_the_last_of_repeated_parameters_counts() -> None:
    """Earlier values of a repeated parameter and unknown parameters are ignored."""
    query = read_predict_query(QueryParams("top_k=x&top_k=2&other=1"), 10, calibrated=False)
    assert query == PredictQuery(top_k=2)


def test_query_parameters_are_documented_with_their_ranges() -> None:
    """The OpenAPI parameters have the ranges that are checked, and none is required."""
    top_k, coverage, per_class, max_error = document_parameters(PREDICT_SCHEMAS)["parameters"]
    assert (top_k["name"], top_k["schema"]) == ("top_k", {"type": "integer", "minimum": 1})
    expected = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
    assert (coverage["name"], coverage["schema"]) == ("coverage", expected)
    assert (max_error["name"], max_error["schema"]) == ("max_error", expected)
    assert (per_class["name"], per_class["schema"]) == ("per_class", {"type": "boolean"})
    documented = (top_k, coverage, per_class, max_error)
    assert all(parameter["description"] and "required" not in parameter for parameter in documented)


def test_a_timeout_is_cut_to_the_limit() -> None:
    """A caller may ask for less time than the server's limit, not for more."""
    assert (read_timeout(None, 30.0), read_timeout("2.5", 30.0), read_timeout("60", 30.0)) == (30.0, 2.5, 30.0)


@pytest.mark.parametrize("header", ["0", "-1", "nan", "inf", "soon", ""])
def test_a_timeout_is_a_positive_finite_number(header: str) -> None:
    """Any other X-Request-Timeout is refused."""
    with pytest.raises(InvalidParameter, match="X-Request-Timeout"):
        read_timeout(header, 30.0)


def test_a_sane_request_id_is_kept() -> None:
    """A request id of up to 128 letters, digits, dots, underscores and hyphens is kept."""
    assert choose_request_id("a.B_c-1") == "a.B_c-1"
    assert choose_request_id("x" * 128) == "x" * 128


@pytest.mark.parametrize("header", [None, "", "x" * 129, "a b", "a\n", "ü", "<script>"])
def test_any_other_request_id_is_replaced(header: str | None) -> None:
    """A request id with other characters, which could break a log line or a header, is replaced."""
    fresh = choose_request_id(header)
    assert fresh != header
    assert choose_request_id(fresh) == fresh
