"""Exports: what other runtimes make of a checkpoint gives our logits, or nothing is written."""

import dataclasses
import functools
import io
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
import pytest
import timm
import torch
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor
from torch.nn import functional as F

from models.checkpoint import Checkpoint, read_checkpoint, restore_model, write_checkpoint
from models.convert import main
from models.export import onnx as onnx_export
from models.export import timm as timm_export
from models.export.model_card import model_card
from models.export.parity import RunExport
from models.export.targets import TARGETS, ExportTarget
from models.golden import GoldenSample, record_golden_sample
from models.metadata import CheckpointMetadata
from models.networks.registry import Architecture, build_network
from models.normalise import normalise
from models.preprocess import Pixels, Preprocessing, preprocess
from models.probabilities import softmax
from tests.fakes.images import random_image
from tests.fakes.lively import lively

TEMPERATURE = 1.7
SMALL = Architecture("vgg11_bn", 4, 3, 32, "pooled", 1 / 16)


def written(path: Path, architecture: Architecture, crop: str = "center", **changes: Any) -> Path:
    """A checkpoint with random weights of that architecture."""
    a, network = architecture, lively(build_network(architecture))
    mean, std = (0.1, 0.2, 0.3)[: a.in_channels], (0.4, 0.5, 0.6)[: a.in_channels]
    preprocessing = Preprocessing(a.input_size, a.input_size + 5, mean, std, a.in_channels, "bicubic", crop)
    metadata = CheckpointMetadata(
        architecture=a,
        labels=tuple(f"naïve 猫 {i}" for i in range(a.num_classes)),
        preprocessing=preprocessing,
        golden=record_golden_sample(network, preprocessing, random_image()),
        temperature=TEMPERATURE,
    )
    write_checkpoint(path, dataclasses.replace(metadata, **changes), network)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return written(tmp_path / "in" / "small.safetensors", SMALL)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A place in a folder that does not exist yet."""
    return tmp_path / "exports" / "out"


def convert(source: Path, to: str, out: Path) -> Checkpoint:
    """Exports, and reads the checkpoint that it was made of."""
    assert main([str(source), "--to", to, "--out", str(out)]) == 0
    assert list(out.parent.iterdir()) == [out]
    return read_checkpoint(source)


def batch_of(found: Checkpoint, count: int) -> Pixels:
    """(count, S, S, C) pixels of images that the export was not compared on."""
    return np.stack([preprocess(random_image(seed), found.metadata.preprocessing) for seed in range(7, 7 + count)])


@torch.inference_mode()
def our_logits(found: Checkpoint, batch: Pixels) -> Tensor:
    logits: Tensor = restore_model(found)(normalise(torch.from_numpy(batch), found.metadata.preprocessing))
    assert float(logits.std(dim=0).min()) > 1e-3  # images differ, and so must their answers
    return logits


@pytest.mark.parametrize(
    "architecture",
    [
        SMALL,
        Architecture("vgg11_lrn", 3, 1, 64, "paper", 1 / 16),
        Architecture("vgg16c_bn", 3, 3, 64, "linear", 1 / 16),
        Architecture("alexnet", 3, 3, 100, width=1 / 16),
    ],
    ids=lambda a: f"{a.name}-{a.head}",
)
def test_onnx_answers_as_we_do(architecture: Architecture, tmp_path: Path, out: Path) -> None:
    """ONNX Runtime gives our logits and calibrated probabilities for pixels, in batches of any size."""
    found = convert(written(tmp_path / "in.safetensors", architecture), "onnx", out)
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    batch = batch_of(found, 5)
    ours = our_logits(found, batch)
    for count in (1, 5):
        logits, probabilities = session.run(["logits", "probabilities"], {"pixels": batch[:count]})
        torch.testing.assert_close(torch.from_numpy(logits), ours[:count], rtol=1e-4, atol=1e-4)
        expected = softmax(ours[:count], TEMPERATURE)
        torch.testing.assert_close(torch.from_numpy(probabilities), expected, rtol=0, atol=1e-5)


def test_onnx_describes_itself(source: Path, out: Path) -> None:
    """The file passes ONNX's own checker and tells labels, preprocessing and temperature, as JSON."""
    found = convert(source, "onnx", out)
    model = onnx.load(out)
    onnx.checker.check_model(model, full_check=True)
    told = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    d = found.metadata
    assert told["labels"] == list(d.labels)
    assert told["preprocessing"] == json.loads(json.dumps(dataclasses.asdict(d.preprocessing)))
    assert (told["temperature"], told["version"]) == (TEMPERATURE, found.version)
    assert Architecture(**told["architecture"]) == SMALL
    shape = [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert shape == ["N", 32, 32, 3]


def test_onnx_is_plain(source: Path, out: Path) -> None:
    """The graph is folded, has no operators but a classifier's, and no path of the machine that made it."""
    convert(source, "onnx", out)
    operators = {node.op_type for node in onnx.load(out).graph.node}
    assert operators <= {
        *("Cast", "Div", "Sub", "Transpose"),
        *("Conv", "Relu", "MaxPool", "ReduceMean", "Reshape", "Gemm", "Softmax"),
    }
    assert str(Path(__file__).parents[3]).encode() not in out.read_bytes()


def test_onnx_is_one_file_or_none(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights that would not fit into one file are refused with their size."""
    monkeypatch.setattr(onnx_export, "MAX_BYTES", 1000)
    assert main([str(source), "--to", "onnx", "--out", str(out)]) == 1
    assert "small.safetensors: has weights of 0.00 GiB, but an ONNX file holds 0.00" in capsys.readouterr().err
    assert list(out.parent.iterdir()) == []


def loaded_by_timm(folder: Path) -> Any:
    return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()


@pytest.mark.parametrize(
    "architecture",
    [
        Architecture("vgg11_bn", 5, 1, 32, "pooled"),
        Architecture("vgg11_bn", 5, 3, 64, "linear"),
        Architecture("vgg11", 5, 3, 96, "paper"),
    ],
    ids=lambda a: a.head,
)
def test_timm_answers_as_we_do(architecture: Architecture, tmp_path: Path, out: Path) -> None:
    """timm's own VGG, with the weights that it finds in the folder, gives our logits for each head."""
    found = convert(written(tmp_path / "in.safetensors", architecture), "timm", out)
    theirs = loaded_by_timm(out)
    batch = batch_of(found, 3)
    with torch.inference_mode():
        logits = theirs(normalise(torch.from_numpy(batch), found.metadata.preprocessing))
    torch.testing.assert_close(logits, our_logits(found, batch), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("crop", ["center", "squash", "pad"])
def test_timm_sees_what_we_see(tmp_path: Path, out: Path, crop: str) -> None:
    """timm's own transform of an image, made by the folder's config, is our preprocessing, and the labels are ours."""
    source = written(tmp_path / "in.safetensors", Architecture("vgg11_bn", 3, 3, 32, "pooled"), crop)
    found = convert(source, "timm", out)
    config = loaded_by_timm(out).pretrained_cfg
    transform = create_transform(**resolve_data_config({}, pretrained_cfg=config))  # type: ignore[no-untyped-call]
    image, p = random_image(3, (90, 61)), found.metadata.preprocessing
    ours = normalise(torch.from_numpy(preprocess(image, p)[None].copy()), p)[0]
    torch.testing.assert_close(transform(image), ours)
    assert tuple(config["label_names"]) == found.metadata.labels
    assert json.loads((out / "config.json").read_text("utf-8"))["temperature"] == TEMPERATURE


@pytest.mark.parametrize("grid", range(1, 8))
def test_timm_s_pool_is_undone(grid: int) -> None:
    """A layer for a smaller map gives the same for that map pooled to 7 x 7, as timm does."""
    torch.manual_seed(0)
    weight, maps = torch.randn(5, 3, grid, grid), torch.randn(2, 3, grid, grid)
    spread = timm_export._undo_pool(weight)
    pooled = F.adaptive_avg_pool2d(maps, 7)
    torch.testing.assert_close(F.conv2d(pooled, spread), F.conv2d(maps, weight), rtol=1e-4, atol=1e-4)


def test_timm_s_crop_is_ours_for_every_size() -> None:
    """timm floors the input size by its share of the resize; the share gives every resize back exactly."""
    for size in range(32, 225, 32):
        for resize in range(size, 2048):
            share = timm_export._crop_share(Preprocessing(size, resize, (0.5,), (0.5,), 1))
            assert math.floor(size / share) == resize, (size, resize)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "vgg16c"}, "architecture is vgg16c, but timm's VGGs are vgg11, vgg13, vgg16, vgg19"),
        ({"name": "vgg11_lrn"}, "architecture is vgg11_lrn, but"),
        ({"name": "alexnet", "head": "paper", "input_size": 64}, "architecture is alexnet, but"),
        ({}, "width is 0.0625, but must be 1 for timm"),
        ({"width": 1.0, "input_size": 256}, "input_size is 256, but must be at most 224 for timm"),
        ({"width": 1.0, "num_classes": 2049}, "head is pooled with 2049 classes, but must have at most 2048"),
    ],
)
def test_what_timm_has_not_is_refused(
    changes: dict[str, Any], reason: str, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Networks that timm's VGGs cannot compute are refused with the reason, and nothing is written."""
    path = written(tmp_path / "in.safetensors", dataclasses.replace(SMALL, **changes))
    assert main([str(path), "--to", "timm", "--out", str(out)]) == 1
    assert reason in capsys.readouterr().err
    assert list(out.parent.iterdir()) == []


def test_hf_is_a_folder_to_upload(source: Path, out: Path) -> None:
    """It holds the checkpoint to the last bit, its model card, and labels for readers of JSON; others may read it."""
    found = convert(source, "hf", out)
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert (out / "model.safetensors").read_bytes() == source.read_bytes()
    assert (out / "README.md").read_text("utf-8") == model_card(found.metadata, found.version)
    config = json.loads((out / "config.json").read_text("utf-8"))
    assert tuple(config["id2label"].values()) == found.metadata.labels
    assert config["version"] == found.version
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in out.iterdir())


def test_the_largest_difference_is_told(source: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line names what was written, its version, the difference and what would have been allowed."""
    found = convert(source, "hf", out)
    line = capsys.readouterr().out
    assert line.startswith(f"wrote {out}: version {found.version} for hf; logits differ by 0.0e+00 at most (")
    assert line.endswith(" is allowed)\n")
    assert line.count("\n") == 1


def answering(change: Callable[[Tensor], Tensor], found: Checkpoint, path: Path) -> RunExport:
    """Writes something whose logits are ours after `change`."""
    path.mkdir()
    (path / "weights").touch()
    return lambda batch: {"logits": change(our_logits(found, batch)).numpy()}


@pytest.mark.parametrize(
    ("change", "differ"),
    [
        (lambda logits: logits * 1.001, True),
        (lambda logits: logits.flip(1), True),
        (lambda logits: logits.where(logits < logits.max(), torch.nan), True),
        (lambda logits: logits * 1.00001, False),
    ],
    ids=["scaled", "mirrored", "not a number", "rounded"],
)
def test_what_answers_otherwise_is_removed(
    change: Callable[[Tensor], Tensor],
    differ: bool,
    source: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Above the bound nothing is left and it is an error; the rounding of floats is no fault."""
    monkeypatch.setitem(TARGETS, "hf", ExportTarget(functools.partial(answering, change)))
    assert main([str(source), "--to", "hf", "--out", str(out)]) == int(differ)
    assert list(out.parent.iterdir()) == ([] if differ else [out])
    if differ:
        assert "small.safetensors: not exported, as on 4 images logits differ by" in capsys.readouterr().err


def test_a_checkpoint_must_know_its_own_golden_sample(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights that do not give the recorded logits are not exported: no server would serve them."""
    png = io.BytesIO()
    Image.new("RGB", (32, 32)).save(png, "PNG")
    path = written(tmp_path / "in.safetensors", SMALL, golden=GoldenSample(png.getvalue(), (9.0, 0.0, 0.0, 0.0)))
    assert main([str(path), "--to", "hf", "--out", str(out)]) == 1
    assert "off on its own golden sample" in capsys.readouterr().err
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize(("to", "package"), [("onnx", "onnxscript"), ("onnx", "onnxruntime"), ("timm", "timm")])
def test_a_missing_package_is_named(
    to: str,
    package: str,
    source: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is not installed is named before any work, with the command that installs it."""
    monkeypatch.setitem(sys.modules, package, None)
    assert main([str(source), "--to", to, "--out", str(out)]) == 1
    expected = f"error: --to {to} needs the package {package}: pip install -r requirements.lock brings it\n"
    assert capsys.readouterr().err == expected
    assert not out.parent.exists()


@pytest.mark.parametrize("to", sorted(TARGETS))
def test_nothing_is_overwritten(to: str, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file or folder that exists is left alone, above all the checkpoint itself."""
    before = source.read_bytes()
    for existing in (source, source.parent):
        assert main([str(source), "--to", to, "--out", str(existing)]) == 1
        assert f"error: {existing}: exists already" in capsys.readouterr().err
    assert source.read_bytes() == before


def test_flags_of_the_other_direction_are_refused(source: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the checkpoint tells cannot be given too."""
    assert main([str(source), "--to", "hf", "--out", str(out), "--input-size", "64"]) == 1
    assert "--input-size is for weights from elsewhere; with --to, the checkpoint tells it" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([str(source), "--to", "tflite", "--out", str(out)])
    assert "tflite" in capsys.readouterr().err


def test_what_is_no_checkpoint_is_refused(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of torch.save is to be made a checkpoint first."""
    torch.save({"weight": torch.ones(1)}, tmp_path / "in.pth")
    assert main([str(tmp_path / "in.pth"), "--to", "onnx", "--out", str(out)]) == 1
    assert "in.pth: is a pickle, which is never loaded; make a checkpoint of it" in capsys.readouterr().err
