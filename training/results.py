"""From a trained network to what its checkpoint says of it.

Owns which split gives which figure: the calibration split temperature and tables, the held-out one the
metrics. Knows nothing of steps or of files.
"""

from dataclasses import asdict

from torch import Tensor, nn

from models.checkpoint import Checkpoint, CheckpointMetadata
from models.golden import record_golden_sample
from training.data.dataset import Dataset, to_image
from training.evaluation.calibration import calibrate, calibration_metrics, check_calibration_size
from training.evaluation.metrics import accuracy_metrics, compute_logits
from training.loop import Trained
from training.recipe import Recipe


def check_calibration(dataset: Dataset) -> None:
    """Raises CalibrationError for a calibration split of too few images, before anything is trained."""
    if "calibration" in dataset.splits:
        check_calibration_size(len(dataset.splits["calibration"]))


def build_metadata(
    trained: Trained, dataset: Dataset, recipe: Recipe, start: Checkpoint | None = None
) -> tuple[CheckpointMetadata, Tensor]:
    """All that the checkpoint says of a run, and the (N, K) logits of the held-out split that its figures tell of.

    Leaves the network on the CPU. Its golden sample is the first image of `val`. Raises CalibrationError.
    """
    logits = {
        name: _logits(trained.model, split.images, dataset, recipe)
        for name, split in dataset.splits.items()
        if name != "train"
    }
    labels = {name: dataset.splits[name].labels for name in logits}
    metrics = {name: {"images": len(labels[name]), **accuracy_metrics(logits[name], labels[name])} for name in logits}
    temperature, calibration = 1.0, None
    if own := metrics.pop("calibration", None):
        temperature, calibration = calibrate(logits["calibration"], labels["calibration"], recipe.calibration)
        held_out = dataset.held_out
        metrics[held_out] |= calibration_metrics(logits[held_out], labels[held_out], temperature, calibration)
        metrics["calibration"] = {"images": own["images"]}
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
        dataset=_data(dataset),
        recipe={**asdict(recipe), **({"init_version": start.version} if start else {})},
        seed=recipe.seed,
    ), logits[dataset.held_out]


def _logits(model: nn.Module, images: Tensor, dataset: Dataset, recipe: Recipe) -> Tensor:
    device = next(model.parameters()).device
    return compute_logits(model, images.to(device), dataset.preprocessing, recipe.batch_size)


def _data(dataset: Dataset) -> dict[str, object]:
    splits = {
        name: {"images": len(split), "fingerprint": dataset.fingerprints[name]}
        for name, split in dataset.splits.items()
    }
    return {
        "name": dataset.name,
        "fingerprint": dataset.fingerprint,
        "splits": splits,
        "unreadable": len(dataset.unreadable),
        "duplicates": dataset.duplicates.counts,
        "duplicate_examples": [list(example) for example in dataset.duplicates.examples],
    }
