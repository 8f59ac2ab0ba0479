"""The command that makes a checkpoint of a state dict."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from models.checkpoint import read_checkpoint, restore_model
from models.convert import main, synthetic_image
from models.golden import record_golden_sample
from models.networks.registry import Architecture, build_network
from models.state_dicts.importing import Expected, import_weights

MEAN_AND_STD = ("--mean", "0.1,0.2,0.3", "--std", "0.4,0.5,0.6")
SIZE = ("--input-size", "64")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A state dict with torchvision's names for a VGG-11 of an eighth of its width."""
    torch.manual_seed(0)
    network = build_network(Architecture("vgg11", 3, input_size=224, width=1 / 8))
    numbers = {"features": (0, 3, 6, 8, 11, 13, 16, 18), "classifier": (0, 3, 6)}
    names = [f"{part}.{i}" for part in numbers for i in numbers[part]]
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    tensors = {
        f"{name}.{key}": tensor
        for name, layer in zip(names, layers, strict=True)
        for key, tensor in layer.state_dict().items()
    }
    torch.save(tensors, tmp_path / "in.pth")
    (tmp_path / "labels.txt").write_text("cat\n big dog \nnaïve 猫\n", "utf-8")
    return tmp_path / "in.pth"


def run(source: Path, *flags: str) -> int:
    folder = source.parent
    return main([str(source), "--labels", str(folder / "labels.txt"), "--out", str(folder / "out.safetensors"), *flags])


def test_makes_a_checkpoint(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The checkpoint holds the network, labels and preprocessing; one line says what was written."""
    assert run(source, *SIZE, *MEAN_AND_STD, "--resize", "72", "--interpolation", "bicubic") == 0
    out = source.parent / "out.safetensors"
    found = read_checkpoint(out)
    assert capsys.readouterr().out == (
        f"wrote {out}: version {found.version}, vgg11 (head paper), 3 classes, 3 x 64 x 64 pixels\n"
    )
    p = found.metadata.preprocessing
    assert found.metadata.labels == ("cat", "big dog", "naïve 猫")
    assert (p.size, p.resize, p.interpolation) == (64, 72, "bicubic")
    assert (p.mean, p.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    network = import_weights(source, Expected(input_size=64)).model
    assert all(torch.equal(found.state[name], tensor) for name, tensor in network.state_dict().items())


def test_the_golden_sample_is_the_network_s(source: Path) -> None:
    """The restored network gives the recorded logits for the recorded image."""
    assert run(source, *SIZE, *MEAN_AND_STD) == 0
    found = read_checkpoint(source.parent / "out.safetensors")
    with Image.open(io.BytesIO(found.metadata.golden.image)) as image:
        again = record_golden_sample(restore_model(found), found.metadata.preprocessing, image)
    assert again.logits == found.metadata.golden.logits


def test_imagenet_by_name(source: Path) -> None:
    """The preset is torchvision's evaluation of its ImageNet weights."""
    assert run(source, "--preprocessing", "imagenet", "--architecture", "vgg11") == 0
    p = read_checkpoint(source.parent / "out.safetensors").metadata.preprocessing
    assert (p.size, p.resize, p.interpolation, p.channels) == (224, 256, "bilinear", 3)
    assert (p.mean, p.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_without_resize_the_shorter_side_becomes_the_input_size(source: Path) -> None:
    """Resize and interpolation have the plain defaults."""
    assert run(source, *SIZE, *MEAN_AND_STD) == 0
    p = read_checkpoint(source.parent / "out.safetensors").metadata.preprocessing
    assert (p.size, p.resize, p.interpolation) == (64, 64, "bilinear")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (SIZE, "the weights do not tell how images are normalised; give --mean and --std, or --preprocessing imagenet"),
        ((*SIZE, "--mean", "0,0,0"), "give --mean and --std"),
        (
            MEAN_AND_STD,
            "in.pth: does not tell its input size, as torchvision's networks take any; give it (--input-size)",
        ),
        (
            (*SIZE, *MEAN_AND_STD, "--architecture", "vgg16"),
            "architecture is given as vgg16, but the weights are for vgg11",
        ),
        ((*SIZE, "--mean", "0.5", "--std", "0.5"), "in_channels is given as 1, but the weights are for 3"),
        ((*SIZE, "--mean", "0.5,0.5,0.5", "--std", "0.5"), "mean and std have 3 and 1 values for 3 channels"),
        ((*SIZE, "--mean", "124,116,104", "--std", "1,1,1"), "mean is (124.0, 116.0, 104.0)"),
        ((*SIZE, *MEAN_AND_STD, "--resize", "0"), "resize is 0, but must lie in 64 (the size)..8192"),
        (("--preprocessing", "imagenet", *SIZE), "--preprocessing stands for --mean, --std, --input-size, --resize"),
    ],
)
def test_what_is_missing_or_wrong_is_said(
    flags: tuple[str, ...], message: str, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line on stderr names the fault and the flag, and nothing is written."""
    assert run(source, *flags) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not (source.parent / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (b"cat\ndog\n", "labels has 2 names, but the weights have 3 classes"),
        (b"cat\ndog\ncat\n", "labels has 'cat' 2 times, but must be unique and not empty"),
        (b"cat\n\ndog\n", "labels has '' 1 times, but must be unique and not empty"),
        (b"", "labels has 1 names, but the weights have 3 classes"),
        (b"cat\ndog\n\xff\xfe\n", "labels.txt: is not UTF-8 text"),
        (None, "No such file or directory"),
    ],
)
def test_labels_must_fit(labels: bytes | None, message: str, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As many unique names as the weights have classes are asked for."""
    path = source.parent / "labels.txt"
    if labels is None:
        path.unlink()
    else:
        path.write_bytes(labels)
    assert run(source, *SIZE, *MEAN_AND_STD) == 1
    assert message in capsys.readouterr().err


def test_a_windows_file_of_labels_is_read(source: Path) -> None:
    """A byte order mark and carriage returns do not end up in the names."""
    (source.parent / "labels.txt").write_bytes(b"\xef\xbb\xbfcat\r\ndog\r\nbird\r\n\r\n")
    assert run(source, *SIZE, *MEAN_AND_STD) == 0
    assert read_checkpoint(source.parent / "out.safetensors").metadata.labels == ("cat", "dog", "bird")


@pytest.mark.parametrize("flags", [("--mean", "a,b,c"), ("--preprocessing", "cifar"), ("--architecture", "vgg17")])
def test_unreadable_flags_end_with_the_usage(
    flags: tuple[str, ...], source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A flag that cannot be read names itself and its value."""
    with pytest.raises(SystemExit, match="2"):
        run(source, *flags)
    error = capsys.readouterr().err
    assert flags[0] in error
    assert flags[1] in error


def test_the_synthetic_image_is_always_the_same_and_colourful() -> None:
    """It uses nearly the whole range of every channel, smoothly enough to survive a resize."""
    values = np.asarray(synthetic_image(64)).astype(int)  # (64, 64, 3)
    assert np.array_equal(values, np.asarray(synthetic_image(64)))
    assert (values.min(axis=(0, 1)) < 40).all()
    assert (values.max(axis=(0, 1)) > 215).all()
    assert np.abs(np.diff(values, axis=1)).mean() < values.std() / 2
