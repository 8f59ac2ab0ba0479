"""Whole answers of a model before it takes over, built from its golden sample.

A fault in a checkpoint's metadata that shows only in an answer would otherwise be a 500 from a server that is ready.
"""

from typing import TYPE_CHECKING

from app.http.schemas import Predictions, model_id_fields, model_info_fields, prediction_fields, to_json
from app.logs import describe_error
from app.settings import Settings

if TYPE_CHECKING:
    from app.serving.classifier import Classifier
    from app.serving.pipeline import LoadedModel

COVERAGES = (0.5, 0.9, 0.999)


def check_answers(model: "LoadedModel", settings: Settings) -> None:
    """Builds and serialises the answers of `/predict`, with and without `coverage`, and of `/model`.

    Raises ValueError with one line that names the checkpoint where that fails on any replica.
    """
    coverages = (None, *COVERAGES) if model.metadata.calibration is not None else (None,)
    try:
        for classifier in model.classifiers:
            for coverage in coverages:
                Predictions.model_validate_json(_predict_golden(model, classifier, coverage))
        to_json(model_info_fields(model, settings))
    except Exception as error:
        fault = describe_error(error)
        raise ValueError(f"{settings.checkpoint}: no answer can be made of the golden sample: {fault}") from error


def _predict_golden(model: "LoadedModel", classifier: "Classifier", coverage: float | None) -> bytes:
    # Deferred: it imports torch, which takes seconds. Whoever has a model has imported it.
    from app.serving.entry import TimedPrediction
    from app.serving.pipeline import Classification, make_prediction_set

    labels = model.metadata.labels
    [prediction] = classifier.make_predictions(classifier.run_golden_batch(1))
    prediction_set = make_prediction_set(prediction, model.metadata.calibration, coverage)
    outcome = Classification(TimedPrediction(prediction, 0.0, 0.0, 0.0, 1), prediction_set)
    fields = prediction_fields(outcome, labels, len(labels), coverage, filename="golden.png")
    return to_json({"model": model_id_fields(model), "predictions": [fields]})
