"""From a trained network to the metadata of its checkpoint.

Owns which split gives which result. The calibration split gives the temperature and the conformal score
tables. The held-out split gives the metrics.
"""

import math
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from models.golden import record_golden_sample
from models.metadata import CheckpointMetadata
from models.probabilities import softmax
from training.data.dataset import Dataset, to_image
from training.data.items import expand_user
from training.errors import TrainingError
from training.evaluation.calibration import calibrate, check_calibration_size
from training.evaluation.data_issues import describe_issues, find_data_issues
from training.evaluation.evaluation import Evaluation, evaluate_predictions
from training.evaluation.metrics import accuracy_metrics, compute_logits
from training.finetune import InitialWeights
from training.loop import Trained
from training.recipe import Recipe

TRAINING_SAMPLE = "training_sample"  # key of the data set's description: a few training images, by identify_image
SAMPLE_IMAGES = 16


def check_calibration(dataset: Dataset) -> None:
    """Raises CalibrationError if the calibration split has too few images. It is called before the training."""
    if "calibration" in dataset.splits:
        check_calibration_size(len(dataset.splits["calibration"]))


def build_metadata(
    trained: Trained, dataset: Dataset, recipe: Recipe, start: InitialWeights | None = None
) -> tuple[CheckpointMetadata, Evaluation]:
    """The checkpoint's metadata, and the evaluation on the held-out split that its metrics come from.

    Moves the network to the CPU. The golden sample is the first image of `val`. Raises CalibrationError, and
    TrainingError for a number that is not finite.
    """
    splits = {name: split for name, split in dataset.splits.items() if name != "train"}
    logits = {name: _compute_logits(trained.model, split.images, dataset, recipe) for name, split in splits.items()}
    for name, rows in logits.items():
        if not bool(rows.isfinite().all()):
            raise TrainingError(f"the logits are not finite for images of {name}, so nothing is written")
    temperature, calibration = 1.0, None
    if own := splits.pop("calibration", None):
        temperature, calibration = calibrate(logits["calibration"], own.labels, recipe.calibration)
    held_out = dataset.held_out
    issues = find_data_issues(dataset.splits, {name: softmax(of, temperature) for name, of in logits.items()})
    evaluation = evaluate_predictions(held_out, splits[held_out], logits[held_out], temperature, calibration, issues)
    metrics = {
        name: evaluation.metrics
        if name == held_out
        else {"images": len(split), **accuracy_metrics(logits[name], split.labels)}
        for name, split in splits.items()
    }
    if calibration:
        metrics["calibration"] = {"images": calibration.images}
    check_finite(trained, metrics)
    trained.model.cpu()
    return CheckpointMetadata(
        architecture=recipe.network(len(dataset.labels)),
        labels=dataset.labels,
        preprocessing=dataset.preprocessing,
        golden=record_golden_sample(trained.model, dataset.preprocessing, to_image(dataset.splits["val"].images[0])),
        temperature=temperature,
        calibration=calibration,
        metrics=metrics,
        history=trained.history,
        dataset={**_describe_dataset(dataset), "issues": describe_issues(issues, evaluation.leak)},
        recipe=_describe_recipe(recipe, start),
        seed=recipe.seed,
    ), evaluation


def check_finite(trained: Trained, metrics: dict[str, dict[str, float]]) -> None:
    """Raises TrainingError, which names it, for a weight, metric or record of the history that is not finite."""
    for name, tensor in trained.model.state_dict().items():
        if not bool(tensor.isfinite().all()):
            raise TrainingError(f"the weights {name} are not finite, so nothing is written; a lower lr may help")
    figures = {f"{split} {name}": value for split, values in metrics.items() for name, value in values.items()}
    for record in trained.history:
        figures |= {f"epoch {record['epoch']} {name}": value for name, value in record.items()}
    for name, value in figures.items():
        if not math.isfinite(value):
            raise TrainingError(f"{name} is {value}, but must be finite, so nothing is written")


def name_data(data: str) -> str:
    """The data set's name without the folders that it lies in: `folder:photos` of `folder:/home/me/photos`."""
    kind, colon, path = data.partition(":")
    if not colon:
        return kind
    name = expand_user(Path(path)).resolve().name
    return f"{kind}:{name.encode('utf-8', 'backslashreplace').decode()}"


def _describe_recipe(recipe: Recipe, start: InitialWeights | None) -> dict[str, Any]:
    """Every setting. No folder of the machine is among them: data and checkpoint are known by name and content."""
    settings = {**recipe.model_dump(), "data": name_data(recipe.data)}
    if start:
        settings |= {"init": start.path.name, "init_version": start.version}
    return settings


def _compute_logits(model: nn.Module, images: Tensor, dataset: Dataset, recipe: Recipe) -> Tensor:
    device = next(model.parameters()).device
    return compute_logits(model, images.to(device), dataset.preprocessing, recipe.batch_size)


def _describe_dataset(dataset: Dataset) -> dict[str, object]:
    trained = list(dataset.images.get("train", ()))
    splits = {
        name: {"images": len(split), "fingerprint": dataset.fingerprints[name]}
        for name, split in dataset.splits.items()
    }
    return {
        "name": name_data(dataset.name),
        "fingerprint": dataset.fingerprint,
        "splits": splits,
        "unreadable": len(dataset.unreadable),
        "duplicates": dataset.duplicates.counts,
        "duplicate_examples": [list(map(_escape, example)) for example in dataset.duplicates.examples],
        "label_conflicts": dataset.duplicates.conflicts,
        TRAINING_SAMPLE: " ".join(trained[:: max(1, len(trained) // SAMPLE_IMAGES)][:SAMPLE_IMAGES]),
    }


def _escape(name: str) -> str:
    r"""A file's name as text: bytes of it that are not UTF-8 become \xNN, because a checkpoint cannot hold them."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")
