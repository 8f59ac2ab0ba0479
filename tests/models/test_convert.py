"""The command that makes a checkpoint of a state dict."""

import io
import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from models.checkpoint import read_checkpoint, restore_model
from models.convert import main
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
        "took vgg11 with torchvision's names\n"
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
        (b"", "labels.txt: has no labels"),
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


@pytest.mark.parametrize(
    ("name", "contents"),
    [
        ("list", '["cat", "big dog", "naïve 猫"]'),
        ("id2label", '{"model_type": "vgg", "id2label": {"1": "big dog", "0": "cat", "2": "naïve 猫"}}'),
        ("by index", '\ufeff{"0": "cat", "1": "big dog", "2": "naïve 猫"}'),
        ("label2id", '{"label2id": {"big dog": 1, "cat": 0, "naïve 猫": 2}}'),
        ("by name", '{"big dog": 1, "cat": 0, "naïve 猫": 2}'),
        ("class index", '{"0": ["n1", "cat"], "1": ["n2", "big dog"], "2": ["n3", "naïve 猫"]}'),
    ],
)
def test_labels_may_be_json(name: str, contents: str, source: Path) -> None:
    """Lists, objects by index or by name, and the configs of model hubs give the same labels."""
    (source.parent / "labels.txt").write_text(contents, "utf-8")
    assert run(source, *SIZE, *MEAN_AND_STD) == 0
    assert read_checkpoint(source.parent / "out.safetensors").metadata.labels == ("cat", "big dog", "naïve 猫")


def copied_link(path: Path, kind: str) -> Path:
    """Another name for the same file."""
    other = path.with_name("other.safetensors")
    other.symlink_to(path) if kind == "symbolic" else other.hardlink_to(path)
    return other


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_the_file_that_is_read_is_never_written(
    kind: str, source: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Source and result must be two files, whatever their names."""
    own = tmp_path / "own.safetensors"
    own.write_bytes(checkpoint.read_bytes())
    for out in (own, copied_link(own, kind)):
        assert main([str(own), "--out", str(out)]) == 1
        assert capsys.readouterr().err == f"error: {out}: is the file that is read; give another name\n"
    assert own.read_bytes() == checkpoint.read_bytes()


def test_nothing_foreign_is_overwritten(
    source: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint may be replaced; another file, a folder and a place that cannot be written are refused first."""
    out = source.parent / "out.safetensors"
    out.write_bytes(checkpoint.read_bytes())
    assert run(source, *SIZE, *MEAN_AND_STD) == 0
    out.write_text("my notes")
    (tmp_path / "folder.safetensors").mkdir()
    for place, message in (
        (out, "exists already and is no checkpoint; remove it or give another name"),
        (tmp_path / "folder.safetensors", "is a folder, but must be a file's name"),
        (tmp_path / "labels.txt", "must end in .safetensors"),
        (tmp_path / "in.pth" / "a.safetensors", f"cannot be written, as {tmp_path / 'in.pth'} is not a folder"),
    ):
        assert main(["missing.pth", "--labels", "none", "--out", str(place)]) == 1
        assert capsys.readouterr().err == f"error: {place}: {message}\n"
    assert out.read_text() == "my notes"


def test_an_export_for_the_hub_becomes_its_checkpoint_again(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder holds the checkpoint, which comes back with the same version; flags that it tells are refused."""
    assert main([str(checkpoint), "--to", "hf", "--out", str(tmp_path / "hub")]) == 0
    out = tmp_path / "again.safetensors"
    assert main([str(tmp_path / "hub"), "--out", str(out)]) == 0
    assert read_checkpoint(out).version == read_checkpoint(checkpoint).version
    capsys.readouterr()
    assert main([str(tmp_path / "hub"), "--out", str(out), "--labels", "labels.txt"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: --labels is for weights from elsewhere; ")
    assert error.endswith("model.safetensors is a checkpoint of this project, which tells it\n")


def test_an_export_for_timm_tells_labels_and_preprocessing(source: Path, tmp_path: Path) -> None:
    """A folder with timm's config.json needs no flags."""
    folder = tmp_path / "timm"
    folder.mkdir()
    torch.save(torch.load(source), folder / "pytorch_model.bin")
    pretrained = {"input_size": [3, 64, 64], "crop_pct": 64 / 72, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    config = {
        "label_names": ["a", "b", "c"],
        "temperature": 1.5,
        "pretrained_cfg": pretrained | {"interpolation": "bicubic"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    assert main([str(folder), "--out", str(tmp_path / "out.safetensors")]) == 0
    metadata = read_checkpoint(tmp_path / "out.safetensors").metadata
    assert (metadata.labels, metadata.temperature) == (("a", "b", "c"), 1.5)
    p = metadata.preprocessing
    assert (p.size, p.resize, p.mean, p.interpolation) == (64, 72, (0.1, 0.2, 0.3), "bicubic")
    del config["pretrained_cfg"]["mean"]  # type: ignore[attr-defined]
    (folder / "config.json").write_text(json.dumps(config))
    assert main([str(folder), "--out", str(tmp_path / "out.safetensors")]) == 1


def test_one_of_several_networks_can_be_chosen(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line says which network was taken, and which were not."""
    state = torch.load(source)
    torch.save({"model": state, "ema": {name: tensor * 0 for name, tensor in state.items()}}, source)
    for flags, line in (
        ((), "took vgg11 with torchvision's names from ema (not from model)\n"),
        (("--which", "model"), "took vgg11 with torchvision's names from model (not from ema)\n"),
    ):
        assert run(source, *SIZE, *MEAN_AND_STD, *flags) == 0
        assert capsys.readouterr().out.startswith(line)
        weights = read_checkpoint(source.parent / "out.safetensors").state["blocks.0.0.weight"]
        assert bool(weights.any()) == bool(flags)


def test_too_little_memory_is_one_line(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A head for an enormous image is refused before it is allocated."""
    assert run(source, "--input-size", str(32 * 10**6), *MEAN_AND_STD) == 1
    error = capsys.readouterr().err
    assert re.search(r"in\.pth: needs \d+ bytes for Architecture\(.*\), but this machine has \d+ of memory\n$", error)
