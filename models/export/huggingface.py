"""Hugging Face: a folder that can be uploaded unchanged, with the checkpoint, a model card and a config.json."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from models import checkpoint
from models.checkpoint import Checkpoint
from models.export.model_card import CHECKPOINT_NAME, model_card
from models.export.parity import RunExport
from models.normalise import normalise
from models.preprocess import Pixels


def write_hf(found: Checkpoint, folder: Path) -> RunExport:
    """Writes the folder, and returns a function that runs the checkpoint in it."""
    folder.mkdir()
    shutil.copyfile(found.path, folder / CHECKPOINT_NAME)
    copy = checkpoint.read_checkpoint(folder / CHECKPOINT_NAME)
    d = copy.metadata
    config = {  # the Hub counts downloads by this file, and callers without our reader find the labels in it
        "architecture": dataclasses.asdict(d.architecture),
        "id2label": dict(enumerate(d.labels)),
        "preprocessing": dataclasses.asdict(d.preprocessing),
        "temperature": d.temperature,
        "version": copy.version,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    (folder / "README.md").write_text(model_card(d, copy.version), "utf-8")
    model = checkpoint.restore_model(copy)

    def answer(batch: Pixels) -> dict[str, Any]:
        logits = model(normalise(torch.from_numpy(batch), d.preprocessing))
        return {"logits": logits.numpy()}

    return answer
