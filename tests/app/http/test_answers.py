"""Answers of any size, written in steps."""

import asyncio
import json

import numpy as np
import pytest

from app.errors import ServiceError, UndecodableImage
from app.http.answers import ROWS_AT_ONCE, write_predictions
from app.http.schemas import prediction_fields, to_json
from app.serving.entry import TimedPrediction
from app.serving.pipeline import Classification
from models.predictions import Prediction

pytestmark = pytest.mark.anyio
MODEL = {"name": "small", "version": "0123456789ab"}


def classify(labels: int, seed: int = 0) -> Classification:
    """A prediction in which several labels have the same probability."""
    probabilities = np.random.default_rng(seed).integers(1, 99, labels).astype(np.float32)
    probabilities /= probabilities.sum()
    return Classification(TimedPrediction(Prediction(probabilities, probabilities, 0.5), 0, 0, 0, 1), [1, 0])


@pytest.mark.parametrize(
    ("labels", "images", "top_k"), [(3, 1, 3), (3, 64, 1), (1_000, 30, 1_000), (2_345, 3, 2_345), (2_345, 2, 1_001)]
)
async def test_an_answer_is_the_same_at_once_and_in_steps(labels: int, images: int, top_k: int) -> None:
    """The steps add up to what the answer would be in one piece."""
    names = tuple(map(str, range(labels)))
    outcomes: list[Classification | ServiceError] = [classify(labels, seed) for seed in range(images)]
    outcomes.insert(1, UndecodableImage("The file is broken."))
    filenames = ["a.png", *[None] * images]
    body = await write_predictions(MODEL, outcomes, filenames, names, top_k, 0.9)
    predictions = [
        prediction_fields(outcome, names, top_k, 0.9, filename)
        for outcome, filename in zip(outcomes, filenames, strict=True)
    ]
    assert json.loads(body) == json.loads(to_json({"model": MODEL, "predictions": predictions}))


@pytest.mark.parametrize(("labels", "images"), [(1_000, 20), (20 * ROWS_AT_ONCE, 1)])
async def test_others_are_served_between_steps(labels: int, images: int) -> None:
    """A large answer gives up the event loop about once for each thousand rows."""
    outcomes = [classify(labels)] * images
    names = tuple(map(str, range(labels)))
    writing = asyncio.create_task(write_predictions(MODEL, outcomes, [None] * images, names, labels, None))
    turns = 0
    while not writing.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns >= 19


async def test_a_small_answer_is_written_at_once() -> None:
    """An ordinary answer does not wait for others."""
    writing = write_predictions(MODEL, [classify(10)], [None], tuple(map(str, range(10))), 5, None)
    with pytest.raises(StopIteration):
        writing.send(None)
