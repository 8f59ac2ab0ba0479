"""What a caller may ask for besides the images: query parameters and headers.

Owns their ranges. Every error names the parameter, its value and the range.
"""

import math
import random
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic.json_schema import SkipJsonSchema
from starlette.datastructures import QueryParams

from app.errors import InvalidParameter

if TYPE_CHECKING:
    from models.probabilities import ClassTables

DEFAULT_TOP_K = 5
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
BOUNDS = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "above", "exclusiveMaximum": "below"}


@dataclass(frozen=True, slots=True)
class PredictQuery:
    """The query parameters of `POST /predict`. A field checks its parameter and documents it in OpenAPI.

    This is a dataclass because pydantic fills one in less time than a `BaseModel`. `SkipJsonSchema` keeps
    null, which means that the parameter is absent, out of the document.
    """

    top_k: Annotated[
        Annotated[int, Field(ge=1)] | SkipJsonSchema[None],
        Field(description="number of labels in `top`, at most all of them; by default 5, or all if there are fewer"),
    ] = None
    coverage: Annotated[
        Annotated[float, Field(gt=0, lt=1)] | SkipJsonSchema[None],
        Field(description="adds to each prediction a prediction set of this coverage"),
    ] = None
    per_class: Annotated[
        bool,
        Field(description="with `coverage`: the prediction sets have it among the images of each label by itself"),
    ] = False
    max_error: Annotated[
        Annotated[float, Field(gt=0, lt=1)] | SkipJsonSchema[None],
        Field(description="adds to each prediction a decision: of those accepted, at most this share is wrong"),
    ] = None

    def count_top_labels(self, classes: int) -> int:
        """The number of labels in `top` for a model of that many classes."""
        return min(DEFAULT_TOP_K, classes) if self.top_k is None else self.top_k


NO_PARAMETERS = PredictQuery()
_ADAPTER = TypeAdapter(PredictQuery)
_NUMBER = TypeAdapter(float)
PREDICT_SCHEMAS: dict[str, dict[str, Any]] = _ADAPTER.json_schema()["properties"]  # by the parameter's name


def read_predict_query(
    parameters: QueryParams, classes: int, *, calibrated: bool, decides: bool = False, by_class: bool = False
) -> PredictQuery:
    """The query of a request to a model of that many classes. Unknown parameters are ignored.

    `calibrated` says whether the checkpoint has a calibration, `decides` whether it has a table of decisions, and
    `by_class` whether it has tables by class. Raises InvalidParameter for a value out of its range, and for a parameter
    without what it needs.
    """
    items = parameters.multi_items()
    if not items:
        return NO_PARAMETERS
    values = dict(items)  # if a parameter is repeated, its last value counts
    try:
        query: PredictQuery = _ADAPTER.validator.validate_python(values)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise _range_error(name, values[name], classes) from error
    if query.top_k is not None and query.top_k > classes:
        raise _range_error("top_k", values["top_k"], classes)
    if query.coverage is not None and not calibrated:
        raise InvalidParameter(
            f"coverage is {values['coverage']!r}, but the checkpoint has no calibration, which prediction sets need."
        )
    if query.per_class and query.coverage is None:
        raise InvalidParameter(f"per_class is {values['per_class']!r}, but there is no coverage, which it needs.")
    if query.per_class and not by_class:
        raise InvalidParameter(
            f"per_class is {values['per_class']!r}, but the checkpoint has no calibration of each label."
        )
    if query.max_error is not None and not decides:
        raise InvalidParameter(
            f"max_error is {values['max_error']!r}, but the checkpoint has no calibration for decisions."
        )
    return query


def check_class_images(query: PredictQuery, labels: Sequence[str], tables: "ClassTables") -> None:
    """Raises InvalidParameter if a label has fewer calibration images than the coverage needs for each label."""
    if not query.per_class or query.coverage is None or not (shortage := tables.find_shortage(query.coverage)):
        return
    label, needed = shortage
    raise InvalidParameter(
        f"coverage is {query.coverage}, for which each label needs {needed} calibration images, "
        f"but {labels[label]!r} has {tables.images[label]}."
    )


def read_timeout(header: str | None, limit_seconds: float) -> float:
    """Seconds from `X-Request-Timeout`, at most the server's own limit. Raises InvalidParameter."""
    if header is None:
        return limit_seconds
    try:
        seconds = _NUMBER.validate_python(header)
    except ValidationError:
        seconds = math.nan  # refused below
    if not 0 < seconds < math.inf:
        raise InvalidParameter(f"X-Request-Timeout is {header!r}, but must be a positive, finite number of seconds.")
    return min(seconds, limit_seconds)


def choose_request_id(header: str | None) -> str:
    """The caller's `X-Request-ID` if it matches `REQUEST_ID`, else a random one."""
    return header if header is not None and REQUEST_ID.fullmatch(header) else f"{random.getrandbits(128):032x}"


def _range_error(name: str, text: str, classes: int) -> InvalidParameter:
    schema = PREDICT_SCHEMAS[name] | ({"maximum": classes} if name == "top_k" else {})
    if schema["type"] == "boolean":
        return InvalidParameter(f"{name} is {text!r}, but must be true or false.")
    bounds = " and ".join(f"{words} {schema[bound]}" for bound, words in BOUNDS.items() if bound in schema)
    kind = "an integer" if schema["type"] == "integer" else "a number"
    return InvalidParameter(f"{name} is {text!r}, but must be {kind} {bounds}.")
