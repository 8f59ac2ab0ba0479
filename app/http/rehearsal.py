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
MAX_ERROR = 0.05


def check_answers(model: "LoadedModel", settings: Settings) -> None:
    """Builds and serialises the answers of `/predict`, with and without `coverage`, and of `/model`.

    An answer has a decision and sets by class where the checkpoint has tables of them. Raises ValueError with one line
    that names the checkpoint where an answer fails on any replica.
    """
    calibration = model.metadata.calibration
    queries: list[tuple[float | None, bool]] = [(None, False)]
    if calibration is not None:
        queries += [(coverage, False) for coverage in COVERAGES]
        queries += [(coverage, True) for coverage in COVERAGES if calibration.by_class is not None]
    try:
        for classifier in model.classifiers:
            for coverage, per_class in queries:
                Predictions.model_validate_json(_predict_golden(model, classifier, coverage, per_class=per_class))
        to_json(model_info_fields(model, settings))
    except Exception as error:
        fault = describe_error(error)
        raise ValueError(f"{settings.checkpoint}: no answer can be made of the golden sample: {fault}") from error


def _predict_golden(
    model: "LoadedModel", classifier: "Classifier", coverage: float | None, *, per_class: bool
) -> bytes:
    # Deferred: it imports torch, which takes seconds. Whoever has a model has imported it.
    from app.serving.entry import TimedPrediction
    from app.serving.pipeline import Classification, make_prediction_set

    labels = model.metadata.labels
    [prediction] = classifier.make_predictions(classifier.run_golden_batch(1))
    calibration = model.metadata.calibration
    prediction_set = make_prediction_set(prediction, calibration, coverage, per_class=per_class)
    threshold = calibration.decisions.find_threshold(MAX_ERROR) if calibration and calibration.decisions else None
    outcome = Classification(TimedPrediction(prediction, 0.0, 0.0, 0.0, 1), prediction_set)
    fields = prediction_fields(outcome, labels, len(labels), coverage, "golden.png", threshold)
    return to_json({"model": model_id_fields(model), "predictions": [fields]})
