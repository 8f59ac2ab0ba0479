"""JSON documents that describe a model: what values they may hold, and their faults in one plain line.

Owns the rules that hold for every value: numbers are finite, text can be encoded, nesting is bounded. So whatever is
read can be written again, into an answer of the server as well.
"""

import json
import math
import reprlib
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

MAX_DEPTH = 64  # of lists and objects; writers of JSON stop at 254 and more
MAX_SHOWN = 60  # characters of a value or key in a message
INTEGERS = range(-(2**63), 2**63)  # what every writer of JSON takes
# What pydantic calls the types of a value, in plain words.
WANTED = {
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "an object",
    "dataclass_type": "an object",
    "bytes_type": "base64 text",
    "bytes_invalid_encoding": "base64 text",
}
T = TypeVar("T")


def parse_json(text: str) -> Any:
    """The document as plain values, each checked by `check_values`. Raises ValueError with one line."""
    try:
        document = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"JSON is nested too deeply, but must have at most {MAX_DEPTH} levels") from error
    except ValueError as error:
        raise ValueError(f"JSON cannot be read: {error}") from error
    check_values(document)
    return document


def build_from_document(document: Any, kind: type[T]) -> T:
    """A dataclass from its document, strictly: unknown fields are refused and no value is converted.

    Raises ValueError with one line: the field, its value and what it must be.
    """
    # Validated from JSON, because only there does pydantic's strict mode take a list for a tuple.
    try:
        return TypeAdapter(kind).validate_json(json.dumps(document), strict=True, extra="forbid")
    except ValidationError as error:
        raise ValueError(_describe_fault(error)) from error


def check_values(value: object, name: str = "", depth: int = 0) -> None:
    """Raises ValueError, naming the field, for a value that JSON cannot hold or that a writer of JSON refuses."""
    if depth > MAX_DEPTH:
        field = name.split(".")[0] or "the document"
        raise ValueError(f"{field} is nested too deeply, but must have at most {MAX_DEPTH} levels")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not (isinstance(key, str) and is_unicode_text(key)):
                raise ValueError(f"{name or 'the document'} has the key {key!a}, but keys must be Unicode text")
            check_values(inner, f"{name}.{_show_key(key)}" if name else _show_key(key), depth + 1)
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            check_values(inner, f"{name}.{i}" if name else str(i), depth + 1)
    elif isinstance(value, str):
        if not is_unicode_text(value):
            raise ValueError(f"{name} is {_shorten(value)}, but must be Unicode text")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}, but must be a finite number")
    elif isinstance(value, int):
        if value not in INTEGERS:
            raise ValueError(f"{name} is a whole number beyond 64 bits, but must lie in -2^63..2^63 - 1")
    elif value is not None:
        raise ValueError(f"{name} is a {type(value).__name__}, but must be text, a number, a list or an object")


def is_unicode_text(text: str) -> bool:
    """Whether UTF-8 can encode the text. A folder's name that is not UTF-8 has lone surrogates, which it cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def escape_unprintable(text: str) -> str:
    """The text on one line: line breaks, control characters and lone surrogates become escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _describe_fault(error: ValidationError) -> str:
    """The first fault in one line."""
    first, *others = error.errors(include_url=False)
    place = first["loc"]
    # A value that may be of several types has a fault for each. pydantic puts the type's name behind the field's.
    several = any(other["loc"][:-1] == place[:-1] and other["type"] != first["type"] for other in others)
    name = ".".join(map(_show_key, place[:-1] if several and len(place) > 1 and place[-1] != "missing" else place))
    kind, value = first["type"], first["input"]
    if kind == "value_error":  # raised by a dataclass of this package, which names field, value and range itself
        message = str(first["ctx"]["error"])
        return f"{name}: {message}" if name else message
    if kind == "missing":
        return f"{name} is missing"
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{name} is not a field of this format"
    wanted = "a number" if several else WANTED.get(kind, first["msg"])
    return f"{name or 'the document'} is {_shorten(value)}, but must be {wanted}"


def _show_key(key: int | str) -> str:
    """The key as it is, or its escaped form if it would not show on one short line."""
    return str(key) if isinstance(key, int) or (key.isprintable() and len(key) <= MAX_SHOWN) else _shorten(key)


def _shorten(value: object) -> str:
    """The value on one line of printable ASCII, with its middle left out if it is long."""
    text = ascii(value) if isinstance(value, str) else ascii(reprlib.repr(value))[1:-1]
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN // 2]}...{text[-MAX_SHOWN // 2 :]}"
