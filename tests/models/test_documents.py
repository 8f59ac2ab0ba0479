"""Documents: every value is checked, and every fault is one plain line."""

import json
import math
from dataclasses import dataclass
from typing import Any

import pytest

from models.documents import MAX_DEPTH, build_from_document, check_values, parse_json


@dataclass(frozen=True, slots=True)
class Shelf:
    name: str
    books: tuple[int | float, ...] = ()
    open: bool = True

    def __post_init__(self) -> None:
        if len(self.books) > 3:
            raise ValueError(f"books has {len(self.books)} values, but must have at most 3")


@dataclass(frozen=True, slots=True)
class Room:
    shelves: dict[str, Shelf]
    key: bytes = b""


def test_a_document_becomes_its_dataclass() -> None:
    """Lists become tuples, objects become dataclasses, whole numbers stay whole."""
    room = build_from_document({"shelves": {"a": {"name": "x", "books": [1, 2.5]}}, "key": "AA"}, Room)
    assert room.shelves == {"a": Shelf("x", (1, 2.5))}
    assert type(room.shelves["a"].books[0]) is int


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], r"the document is \[\], but must be an object"),
        ({}, "shelves is missing"),
        ({"shelves": {}, "door": 1}, "door is not a field of this format"),
        ({"shelves": {"a": {"name": 5}}}, "shelves.a.name is 5, but must be text"),
        ({"shelves": {"a": {"name": "x", "books": ["y"]}}}, "shelves.a.books.0 is 'y', but must be a number"),
        ({"shelves": {"a": {"name": "x", "open": 1}}}, "shelves.a.open is 1, but must be true or false"),
        ({"shelves": {"a": {"name": "x", "books": [1] * 4}}}, "shelves.a: books has 4 values, but must have at most 3"),
        ({"shelves": ["x"]}, r"shelves is \['x'\], but must be an object"),
        ({"shelves": {"float": "x" * 99}}, r"shelves\.float is 'x+\.\.\.x+', but must be an object"),
        ({"shelves": {"a": {"name": None}}}, "shelves.a.name is None, but must be text"),
    ],
)
def test_a_fault_is_named_in_plain_words(document: Any, message: str) -> None:
    """The field, its value and what it must be: no name of a library's class or type is in the line."""
    with pytest.raises(ValueError, match=f"^{message}$"):
        build_from_document(document, Room)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, {"b": math.nan}]}, "a.1.b is nan, but must be a finite number"),
        ({"a": -math.inf}, "a is -inf, but must be a finite number"),
        ({"a": "\ud800"}, r"a is '\\ud800', but must be Unicode text"),
        ({"a": {"\ud800": 1}}, r"a has the key '\\ud800', but keys must be Unicode text"),
        ({"a": {2: 1}}, "a has the key 2, but keys must be Unicode text"),
        ({"a": 2**63}, r"a is a whole number beyond 64 bits, but must lie in -2\^63\.\.2\^63 - 1"),
        ({"a": {1, 2}}, "a is a set, but must be text, a number, a list or an object"),
    ],
)
def test_a_value_that_no_answer_could_hold_is_refused(value: Any, message: str) -> None:
    """What JSON has no form for is named with its place, however deep."""
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_values(value)


def test_nesting_is_bounded() -> None:
    """A list within lists is taken up to a depth that every writer of JSON can write."""
    nested = json.loads("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    check_values(nested)
    with pytest.raises(ValueError, match="a is nested too deeply, but must have at most 64 levels"):
        check_values({"a": [nested]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 10**6, "JSON is nested too deeply"),
        ("9" * 5000, "JSON cannot be read: .*"),
        ("{", "JSON cannot be read: .*"),
        ('{"a": 1e999}', "a is inf, but must be a finite number"),
        ('{"a": NaN}', "a is nan, but must be a finite number"),
    ],
)
def test_text_that_is_no_sound_document_is_refused(text: str, message: str) -> None:
    """Text that is no JSON, or JSON that holds impossible values, is refused in one line."""
    with pytest.raises(ValueError, match=message) as caught:
        parse_json(text)
    assert "\n" not in str(caught.value)
