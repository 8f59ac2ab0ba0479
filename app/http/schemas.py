"""The shape of the answers: as models for the OpenAPI document, and the functions that fill them.

Owns field names and their order. Answers are built as plain dictionaries and serialised without a validation pass; a
test compares them with the models.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from starlette.responses import Response

from app.errors import ServiceError

if TYPE_CHECKING:
    from app.serving.pipeline import Classification, LoadedModel
    from app.settings import Settings
    from models.predictions import Prediction


class ModelId(BaseModel):
    """Which model answered."""

    name: str
    version: str = Field(description="first 12 hex digits of the checkpoint's SHA-256")


class Ranked(BaseModel):
    """One of the most probable labels."""

    label: str
    index: int
    probability: float


class PredictionSet(BaseModel):
    """Labels among which the right one is, for images like those of the calibration, with probability `coverage`."""

    coverage: float
    labels: list[str] = Field(description="the most probable first, at least that one")


class ImageError(BaseModel):
    """Why one of several images has no prediction."""

    code: str
    detail: str
    status: int


class PredictionItem(BaseModel):
    """One image's answer; where `error` is set, everything else but `filename` is null."""

    label: str | None
    index: int | None
    probability: float | None
    typicality: float | None = Field(
        ge=0, le=1, description="share of the calibration's images that fit the model as badly or worse"
    )
    top: list[Ranked] | None
    probabilities: list[float] | None = Field(description="of all classes, in the order of the labels")
    prediction_set: PredictionSet | None = Field(None, description="only where `coverage` was asked for")
    filename: str | None = Field(None, description="only where the multipart part had one")
    error: ImageError | None


class Predictions(BaseModel):
    """The answer of `POST /predict`; `predictions` is in the order of the images."""

    model: ModelId
    predictions: list[PredictionItem]


class Reloaded(BaseModel):
    """The answer of `POST /admin/reload`: the model that answers from now on, and the one before it."""

    model: ModelId
    previous: ModelId


class CalibrationInfo(BaseModel):
    """What prediction sets and typicality rest on."""

    kind: str = Field(description="the conformal score: lac or aps")
    images: int = Field(description="that the scores were taken from")
    temperature: float = Field(description="that the logits are divided by")


class ModelInfo(ModelId):
    """The answer of `GET /model`."""

    labels: list[str]
    architecture: dict[str, Any]
    preprocessing: dict[str, Any]
    metrics: dict[str, dict[str, float]]
    calibration: CalibrationInfo | None
    temperature: float
    device: str
    dtype: str
    max_batch: int = Field(description="largest batch in images, as measured at start")
    limits: dict[str, float]
    created_at: str


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    title: str
    status: int
    detail: str
    code: str
    request_id: str


class HealthReport(BaseModel):
    """The answer of a health check."""

    status: str
    reason: str | None = None


def to_json(document: Any) -> bytes:
    """JSON bytes; numpy's float32 keep their short form."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def json_response(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer in JSON."""
    return Response(to_json(document), status, headers, "application/json")


def prediction_fields(
    outcome: "Classification | ServiceError",
    labels: tuple[str, ...],
    top_k: int,
    coverage: float | None,
    filename: str | None,
) -> dict[str, Any]:
    """The fields of one `PredictionItem`."""
    fields: dict[str, Any] = dict.fromkeys(
        ("label", "index", "probability", "typicality", "top", "probabilities", "error")
    )
    if filename:
        fields["filename"] = filename
    if isinstance(outcome, ServiceError):
        return {**fields, "error": outcome.to_item()}
    prediction = outcome.timed.prediction
    top = ranked_fields(prediction, labels, rank_labels(prediction)[:top_k])
    if outcome.prediction_set is not None:
        fields["prediction_set"] = {"coverage": coverage, "labels": [labels[i] for i in outcome.prediction_set]}
    return {
        **fields,
        **top[0],
        "typicality": prediction.typicality,
        "top": top,
        "probabilities": prediction.probabilities,
    }


def rank_labels(prediction: "Prediction") -> NDArray[np.intp]:
    """The indices of all labels, the most probable first, ties by index."""
    return np.argsort(-prediction.probabilities, kind="stable")


def ranked_fields(prediction: "Prediction", labels: tuple[str, ...], indices: NDArray[np.intp]) -> list[dict[str, Any]]:
    """The fields of `Ranked` for each of these labels."""
    return [
        {"label": labels[index], "index": index, "probability": probability}
        for index, probability in zip(indices.tolist(), prediction.probabilities[indices], strict=True)
    ]


def model_id_fields(model: "LoadedModel") -> dict[str, str]:
    """The fields of `ModelId`."""
    return {"name": model.metadata.architecture.name, "version": model.version}


def model_info_fields(model: "LoadedModel", settings: "Settings") -> dict[str, Any]:
    """The fields of `ModelInfo`."""
    metadata, classifiers = model.metadata, model.classifiers
    calibration, temperature = metadata.calibration, metadata.temperature
    return {
        **model_id_fields(model),
        "labels": metadata.labels,
        "architecture": metadata.architecture,
        "preprocessing": metadata.preprocessing,
        "metrics": metadata.metrics,
        "calibration": calibration
        and {"kind": calibration.kind, "images": calibration.images, "temperature": temperature},
        "temperature": temperature,
        "device": ",".join(classifier.name for classifier in classifiers),
        "dtype": str(classifiers[0].dtype).removeprefix("torch."),
        "max_batch": max(classifier.max_batch_size for classifier in classifiers),
        "limits": settings.limits(),
        "created_at": metadata.created_at,
    }
