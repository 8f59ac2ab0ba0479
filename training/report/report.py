"""The report of a training run: an HTML page, its pictures as PNG files, and the model card.

Owns the order of the sections and the files. The content comes from the checkpoint's metadata and from the
evaluation on the held-out split.
"""

import os
import platform
from pathlib import Path, PurePath

import torch

from models.export.model_card import model_card
from models.metadata import CheckpointMetadata
from training.evaluation.evaluation import Evaluation
from training.report import data_issues, sections
from training.report.template import Facts, Picture, Section, render_page

PICTURES = ("curves", "confusion", "reliability", "coverage", "mistakes", "label_issues", "near_duplicates")


def write_report(folder: Path, metadata: CheckpointMetadata, version: str, evaluation: Evaluation) -> Path:
    """Writes report.html, its pictures and README.md, and returns the path of report.html. Raises OSError.

    The history has at least one epoch. The model card expects the checkpoint beside the folder, under the
    folder's name. Existing files are replaced, and pictures that no longer apply are deleted.
    """
    contents = _build_sections(metadata, evaluation)
    title = f"{metadata.architecture.name} trained on {PurePath(metadata.dataset['name']).name}"
    page = render_page(title, f"Version {version}, created at {metadata.created_at}", contents)
    pictures = {block.name: block.png for part in contents for block in part.blocks if isinstance(block, Picture)}

    folder.mkdir(parents=True, exist_ok=True)
    # First, because the model card tells a later run that the folder is ours.
    (folder / "README.md").write_text(model_card(metadata, version, f"../{folder.name}.safetensors"), "utf-8")
    for name in PICTURES:
        (folder / f"{name}.png").unlink(missing_ok=True)
    for name, png in pictures.items():
        (folder / f"{name}.png").write_bytes(png)
    path = folder / "report.html"
    path.write_text(page, "utf-8", errors="backslashreplace")  # a file name can contain bytes that are not UTF-8
    return path


def _build_sections(metadata: CheckpointMetadata, evaluation: Evaluation) -> list[Section]:
    labels = metadata.labels
    return [
        sections.describe_summary(evaluation),
        sections.describe_training(metadata.history),
        sections.describe_confusion(evaluation, labels),
        sections.describe_reliability(evaluation),
        sections.describe_prediction_sets(evaluation),
        sections.describe_decisions(evaluation),
        sections.describe_mistakes(evaluation, labels),
        sections.describe_labels(evaluation, labels),
        *data_issues.describe_issues(evaluation, labels),
        Section("Training settings", (Facts(metadata.recipe),)),
        Section("Data set", (Facts(metadata.dataset),)),
        Section("Environment", (Facts({**metadata.versions, **_describe_machine()}),)),
    ]


def _describe_machine() -> dict[str, object]:
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"platform": platform.platform(), "processors": os.cpu_count(), "CUDA devices": devices}
