"""The paper's test: whole images, their mirror images, several scales, and the table."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.checkpoint import read_checkpoint, write_checkpoint
from models.golden import record_golden_sample
from models.image_files import read_pixels
from models.metadata import CheckpointMetadata
from models.networks.registry import Architecture, build_network
from models.normalise import normalise
from models.preprocess import Preprocessing
from models.probabilities import softmax
from tests.fakes.checkpoints import LABELS
from tests.fakes.images import random_image
from training.data.items import DataError
from training.data.statistics import identify_image
from training.multiscale import compute_posteriors, find_labelled_files, format_row, main, to_fully_convolutional
from training.results import TRAINING_SAMPLE

NETWORK = Architecture("vgg11", len(LABELS), input_size=32, head="paper", width=1 / 8)
CONTRACT = Preprocessing(size=32, resize=40, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
HEADER = "| network | train (S) | test (Q) | top-1 error (%) | top-5 error (%) |"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with random weights, trained at a scale of 40 pixels, if one believes its checkpoint."""
    torch.manual_seed(0)
    model = build_network(NETWORK).eval()
    golden = record_golden_sample(model, CONTRACT, random_image())
    path = tmp_path_factory.mktemp("multiscale") / "small.safetensors"
    write_checkpoint(
        path, CheckpointMetadata(architecture=NETWORK, labels=LABELS, preprocessing=CONTRACT, golden=golden), model
    )
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two images of each label, wide and tall ones."""
    for i, label in enumerate(LABELS):
        (tmp_path / "images" / label).mkdir(parents=True)
        for j, size in enumerate([(90, 60), (50, 100)]):
            random_image(2 * i + j, size).save(tmp_path / "images" / label / f"{j}.png")
    return tmp_path / "images"


def table(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """The cells of the printed table's rows."""
    lines = capsys.readouterr().out.splitlines()
    body = lines[lines.index(HEADER) + 2 :]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in body]


@torch.inference_mode()
def test_posteriors_are_the_mean_of_both_mirror_images(checkpoint: Path, images: Path) -> None:
    """The whole image, resized by its shorter side, and its mirror image: the mean of their probabilities."""
    loaded = read_checkpoint(checkpoint)
    model, path = to_fully_convolutional(loaded), images / "cat" / "0.png"
    found = compute_posteriors(model, loaded.metadata, [path], 64)
    resized = np.asarray(Image.open(path).resize((96, 64), Image.Resampling.BILINEAR))
    views = torch.from_numpy(np.stack([resized, resized[:, ::-1]]))
    expected = softmax(model(normalise(views, CONTRACT)))
    assert not torch.allclose(expected[0], expected[1], atol=1e-3)
    torch.testing.assert_close(found, expected.mean(dim=0, keepdim=True))


@torch.inference_mode()
def test_no_mirror_images_where_there_were_none_in_training(checkpoint: Path, images: Path) -> None:
    """A network that was trained with `flip` none, say on digits, is not shown mirror images."""
    loaded = read_checkpoint(checkpoint)
    model, path = to_fully_convolutional(loaded), images / "dog" / "1.png"
    found = compute_posteriors(model, replace(loaded.metadata, recipe={"flip": "none"}), [path], 32)
    resized = np.asarray(Image.open(path).resize((32, 64), Image.Resampling.BILINEAR))
    expected = softmax(model(normalise(torch.from_numpy(resized[None].copy()), CONTRACT)))
    torch.testing.assert_close(found, expected)


@torch.inference_mode()
def test_probabilities_are_calibrated(checkpoint: Path, images: Path) -> None:
    """The checkpoint's temperature counts: a high one evens the probabilities out."""
    loaded = read_checkpoint(checkpoint)
    even = compute_posteriors(
        to_fully_convolutional(loaded), replace(loaded.metadata, temperature=1000.0), [images / "cat" / "0.png"], 32
    )
    torch.testing.assert_close(even, torch.full((1, 4), 0.25), rtol=0, atol=1e-3)


def test_a_row_counts_errors(checkpoint: Path) -> None:
    """Top-1 errors are labels that are not the likeliest, top-5 errors those not among the five likeliest."""
    probabilities = torch.tensor([[0.4, 0.2, 0.15, 0.1, 0.08, 0.07]]).repeat(4, 1)
    line = format_row(read_checkpoint(checkpoint).metadata, "32, 48", probabilities, [0, 1, 4, 5])
    assert line == "| vgg11 | 40 | 32, 48 | 75.0 | 25.0 |\n"


def test_the_table_has_each_scale_and_all_of_them(
    checkpoint: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One row a scale, and one for the mean of their probabilities."""
    assert main([str(checkpoint), "--data", f"folder:{images}", "--scales", "32,57", "--device", "cpu"]) == 0
    loaded = read_checkpoint(checkpoint)
    found = find_labelled_files(images, loaded.metadata)
    each = [
        compute_posteriors(to_fully_convolutional(loaded), loaded.metadata, found.paths, scale) for scale in (32, 57)
    ]
    expected = [
        format_row(loaded.metadata, name, probabilities, found.labels)
        for name, probabilities in [("32", each[0]), ("57", each[1]), ("32, 57", (each[0] + each[1]) / 2)]
    ]
    assert [f"| {' | '.join(cells)} |\n" for cells in table(capsys)] == expected


def test_the_default_scales_are_the_paper_s_in_proportion(
    checkpoint: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seven eighths, all and nine eighths of the training scale, as 224, 256 and 288 of 256."""
    assert main([str(checkpoint), "--data", f"folder:{images}"]) == 0
    assert [cells[1:3] for cells in table(capsys)] == [["40", "35"], ["40", "40"], ["40", "45"], ["40", "35, 40, 45"]]


def test_labels_are_found_by_name(checkpoint: Path, images: Path) -> None:
    """A folder's name is its label, at any depth below it; hidden files and loose ones are no images."""
    (images / "fox" / "more").mkdir()
    random_image().save(images / "fox" / "more" / "2.png")
    for hidden in (images / ".cache" / "x.png", images / "cat" / ".x.png", images / "README.txt"):
        hidden.parent.mkdir(exist_ok=True)
        hidden.touch()
    found = find_labelled_files(images, read_checkpoint(checkpoint).metadata)
    assert [LABELS[label] for label in found.labels] == [path.relative_to(images).parts[0] for path in found.paths]
    assert sorted(found.labels) == [0, 0, 1, 1, 2, 2, 3, 3, 3]


@pytest.mark.parametrize(("others", "held_out"), [((), "val"), (("val",), "test")])
def test_the_held_out_part_is_preferred(
    others: tuple[str, ...], held_out: str, checkpoint: Path, tmp_path: Path, images: Path
) -> None:
    """test/ is evaluated where there is one, then val/, also if the network was trained on the folder."""
    images.rename(tmp_path / held_out)
    for other in others:
        (tmp_path / other / "cat").mkdir(parents=True)
    (tmp_path / "train" / "cat").mkdir(parents=True)
    (tmp_path / "train" / "cat" / "0.png").touch()
    metadata = replace(read_checkpoint(checkpoint).metadata, recipe={"data": f"folder:{tmp_path}"})
    found = find_labelled_files(tmp_path, metadata).paths
    assert len(found) == 8
    assert {path.relative_to(tmp_path).parts[0] for path in found} == {held_out}


def test_training_images_are_refused(checkpoint: Path, images: Path, tmp_path: Path) -> None:
    """What the network was trained on tells nothing, whatever the folder is called now. Single images do not count."""
    metadata = read_checkpoint(checkpoint).metadata
    identities = []
    for path in sorted(images.rglob("*.png")):
        pixels = read_pixels(path.read_bytes(), CONTRACT)
        identities.append(identify_image(hashlib.sha256(pixels.tobytes()).digest(), path.parent.name))
    trained = replace(metadata, dataset={TRAINING_SAMPLE: " ".join(identities[:3])})
    folder = images.rename(tmp_path / "other")
    with pytest.raises(DataError, match="others are what the network was trained on; give images that it has not seen"):
        find_labelled_files(folder, trained)
    new = replace(metadata, dataset={TRAINING_SAMPLE: " ".join([identities[0], "0" * 16, "1" * 16])})
    assert len(find_labelled_files(folder, new).paths) == 8


def no_folder(images: Path) -> list[str]:
    return ["--data", f"folder:{images}/none"]


def unknown_label(images: Path) -> list[str]:
    (images / "cat").rename(images / "emu")
    return ["--data", f"folder:{images}"]


def no_images(images: Path) -> list[str]:
    (images.parent / "empty").mkdir()
    return ["--data", f"folder:{images.parent}/empty"]


def broken_image(images: Path) -> list[str]:
    (images / "cat" / "0.png").write_bytes(b"no image")
    return ["--data", f"folder:{images}"]


def other_data(images: Path) -> list[str]:
    return ["--data", "digits"]


def small_scale(images: Path) -> list[str]:
    return ["--data", f"folder:{images}", "--scales", "48,31"]


def unknown_device(images: Path) -> list[str]:
    return ["--data", f"folder:{images}", "--device", "abacus"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (no_folder, 1, "images/none is not a folder$"),
        (unknown_label, 1, "images has folders of labels that the network does not know: emu$"),
        (no_images, 1, "empty has no class folders: each label needs a folder of its images$"),
        (broken_image, 1, r"cat/0.png cannot be read as an image \(.*\)$"),
        (other_data, 2, "data is 'digits', but must be folder:PATH, such as what --save-held-out wrote$"),
        (small_scale, 2, r"scales has 31, but must lie in 32 \(the network's input size\)..4096$"),
        (unknown_device, 2, "device is 'abacus', but must be one of auto, cpu"),
    ],
)
def test_what_cannot_be_evaluated_is_named(
    arguments: Callable[[Path], list[str]],
    status: int,
    message: str,
    checkpoint: Path,
    images: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever is wrong ends in one line on stderr."""
    assert main([str(checkpoint), *arguments(images)]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(f"^error: .*{message}", line)


def test_only_a_vgg_is_evaluated(tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """AlexNet has no fully convolutional form here."""
    architecture = replace(NETWORK, name="alexnet")
    model = build_network(architecture).eval()
    golden = record_golden_sample(model, CONTRACT, random_image())
    metadata = CheckpointMetadata(architecture=architecture, labels=LABELS, preprocessing=CONTRACT, golden=golden)
    write_checkpoint(tmp_path / "alexnet.safetensors", metadata, model)
    assert main([str(tmp_path / "alexnet.safetensors"), "--data", f"folder:{images}"]) == 2
    assert "holds alexnet, but only a VGG is evaluated on whole images" in capsys.readouterr().err


def test_scales_that_are_no_numbers_are_refused(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--scales` names what it cannot read."""
    assert main([str(checkpoint), "--data", "folder:x", "--scales", "32;64"]) == 2
    assert "'32;64' is not a list of whole numbers separated by commas" in capsys.readouterr().err
