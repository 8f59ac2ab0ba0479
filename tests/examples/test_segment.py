"""The segmentation example: its pictures, its measure, its training and its command line."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from examples import segment
from examples.scenes import CLASSES, SIZE, scenes
from examples.segment import PALETTE, intersection_over_union, main, network, picture, predict, train
from models.normalise import normalise


def test_the_same_seed_draws_the_same_scenes() -> None:
    """A seed decides every pixel and every class, and another one draws something else."""
    first, again, other = scenes(4, seed=0), scenes(4, seed=0), scenes(4, seed=1)
    assert first.images.shape == (4, SIZE, SIZE, 3)
    assert first.masks.shape == (4, SIZE, SIZE)
    assert (first.images.dtype, first.masks.dtype) == (torch.uint8, torch.int64)
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.masks, again.masks)
    assert not torch.equal(first.images, other.images)
    assert not torch.equal(first.masks, other.masks)


def test_every_class_occurs_and_every_scene_has_a_shape() -> None:
    """No class is missing, and the background is never alone."""
    masks = scenes(32, seed=0).masks
    assert set(masks.flatten().tolist()) == set(range(len(CLASSES)))
    assert (masks > 0).flatten(1).any(dim=1).all()


def test_masks_lie_where_the_shapes_do() -> None:
    """Neighbours of different classes differ several times as much in colour as neighbours of the same class."""
    data = scenes(32, seed=0)
    steps = data.images.float().diff(dim=2).norm(dim=3)  # (N, S, S - 1)
    outlines = data.masks.diff(dim=2) != 0
    assert steps[outlines].mean() > 3 * steps[~outlines].mean()


@pytest.mark.parametrize(
    ("predicted", "truth", "expected"),
    [
        ([[0, 1], [2, 1]], [[0, 1], [2, 1]], [1, 1, 1]),
        ([[0, 0], [0, 0]], [[0, 1], [1, 1]], [1 / 4, 0, math.nan]),
        ([[0, 1], [1, 1]], [[0, 0], [1, 1]], [1 / 2, 2 / 3, math.nan]),
        ([[1, 1], [2, 2]], [[2, 2], [1, 1]], [math.nan, 0, 0]),
        ([[0, 0, 0, 2]], [[0, 0, 2, 2]], [2 / 3, math.nan, 1 / 2]),
    ],
)
def test_iou_by_hand(predicted: list[list[int]], truth: list[list[int]], expected: list[float]) -> None:
    """Intersection over union, counted by hand; a class that neither mask has is nan."""
    iou = intersection_over_union(torch.tensor(predicted), torch.tensor(truth))
    assert iou.tolist() == pytest.approx([*expected, math.nan, math.nan], nan_ok=True)


def test_iou_counts_over_all_images() -> None:
    """Images are not averaged but counted together, so that a small shape weighs as much as its pixels."""
    predicted, truth = torch.tensor([[[1, 0, 0]], [[1, 1, 1]]]), torch.tensor([[[1, 1, 1]], [[1, 1, 1]]])
    assert intersection_over_union(predicted, truth)[1].item() == pytest.approx(4 / 6)


def test_a_short_run_learns() -> None:
    """A few epochs on a few scenes bring the loss down to half."""
    torch.manual_seed(0)
    losses = list(train(network(), scenes(48, seed=0), epochs=5))
    assert len(losses) == 5
    assert losses[-1] < losses[0] / 2


def test_every_pixel_gets_its_likeliest_class() -> None:
    """The prediction is the class of the largest logit, in batches as in one go."""
    images, model = scenes(segment.BATCH_SIZE + 1, seed=0).images, network()
    predicted = predict(model, images)
    logits = model(normalise(images, segment.PREPROCESSING))
    assert predicted.shape == (len(images), SIZE, SIZE)
    assert (predicted == logits.argmax(dim=1)).double().mean() > 0.999  # batches round differently


def test_training_repeats() -> None:
    """The same seeds give the same losses."""
    losses = []
    for _ in range(2):
        torch.manual_seed(0)
        losses.append(list(train(network(), scenes(32, seed=0), epochs=1)))
    assert losses[0] == losses[1]


def test_the_picture_shows_image_truth_and_prediction() -> None:
    """Scenes stand two in a row, each as its pixels, its true mask and the predicted one."""
    data = scenes(4, seed=0)
    shown = np.asarray(picture(data.images, data.masks, torch.zeros_like(data.masks)))
    assert shown.shape == (2 * 132 - 4, 6 * 132 - 4, 3)
    for i, (row, column) in enumerate([(0, 0), (0, 3), (1, 0), (1, 3)]):
        image, truth, predicted = (shown[row * 132 :, (column + part) * 132 :][:128:2, :128:2] for part in range(3))
        assert np.array_equal(image, data.images[i])
        assert np.array_equal(truth, PALETTE[data.masks[i]])
        assert not predicted.any()  # background is black


def test_the_command_trains_and_writes_a_png(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--out` gets the picture, in a folder that need not exist; each epoch has a line with loss and IoU."""
    monkeypatch.setattr(segment, "TRAIN_IMAGES", 16)
    monkeypatch.setattr(segment, "HELD_OUT_IMAGES", 12)
    out = tmp_path / "new" / "picture"
    assert main(["--out", str(out), "--epochs", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[:2]] == [["epoch", "1", "loss"], ["epoch", "2", "loss"]]
    assert all(f"{name} " in line for name in ("IoU", *CLASSES) for line in lines[:2])
    with Image.open(out) as shown:
        assert shown.format == "PNG"


def test_a_place_that_cannot_be_written_is_found_before_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder in the picture's place is refused in one line."""
    assert main(["--out", str(tmp_path)]) == 1
    assert capsys.readouterr() == ("", f"error: out is {tmp_path}, but no file can be written there (Is a directory)\n")


@pytest.mark.parametrize("epochs", ["0", "-1", "some"])
def test_no_epochs_are_refused(epochs: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The number of epochs is named where it is none."""
    with pytest.raises(SystemExit):
        main(["--out", "unused.png", f"--epochs={epochs}"])
    assert f"argument --epochs: '{epochs}' is not a whole number of at least 1" in capsys.readouterr().err
