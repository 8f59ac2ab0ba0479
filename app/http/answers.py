"""Answers of any size as JSON, written in steps that the event loop can afford.

64 images with 1,000 labels each are megabytes of JSON. A step writes one image, or a thousand rows of its list `top`.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import orjson

from app.errors import ServiceError
from app.http.pieces import join_pieces
from app.http.schemas import prediction_fields, rank_labels, ranked_fields, to_json

if TYPE_CHECKING:
    from app.serving.pipeline import Classification

ROWS_AT_ONCE = 1_000  # of `top`: about a millisecond
NUMBERS_AT_ONCE = 10_000  # of `probabilities`, about as much


async def write_predictions(
    model: Mapping[str, str] | None,
    outcomes: "Sequence[Classification | ServiceError]",
    filenames: Sequence[str | None],
    labels: tuple[str, ...],
    top_k: int,
    coverage: float | None,
) -> bytes:
    """The JSON of `Predictions`. `outcomes` and `filenames` are in the order of the images; `model` is a `ModelId`.

    With None for it, the predictions stand alone in the object.
    """
    pieces = [b"{", b"" if model is None else b'"model":%b,' % to_json(model), b'"predictions":[']
    rows = numbers = 0
    for outcome, filename in zip(outcomes, filenames, strict=True):
        rows, numbers = rows + top_k, numbers + len(labels)
        if rows > ROWS_AT_ONCE or numbers > NUMBERS_AT_ONCE:
            rows, numbers = top_k, len(labels)
            await asyncio.sleep(0)
        fields = prediction_fields(outcome, labels, min(top_k, ROWS_AT_ONCE), coverage, filename)
        if top_k > ROWS_AT_ONCE and not isinstance(outcome, ServiceError):
            fields["top"] = orjson.Fragment(await _write_top(outcome, labels, top_k))
        pieces += to_json(fields), b","
    pieces[-1] = b"]}"
    return await join_pieces(pieces)


async def _write_top(outcome: "Classification", labels: tuple[str, ...], top_k: int) -> bytes:
    prediction, pieces = outcome.timed.prediction, list[bytes]()
    indices = rank_labels(prediction)[:top_k]
    for start in range(0, top_k, ROWS_AT_ONCE):
        await asyncio.sleep(0)
        rows = ranked_fields(prediction, labels, indices[start : start + ROWS_AT_ONCE])
        pieces.append(to_json(rows)[1:-1])
    return b"[" + b",".join(pieces) + b"]"
