"""One replica: precision, batches and devices."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from app.serving.classifier import TOLERANCE, Classifier, load_classifier
from models.checkpoint import Checkpoint, CheckpointError, read_checkpoint, restore_model
from models.golden import record_golden_sample
from models.inference.fuse import fuse
from models.networks.registry import build_network
from models.normalise import normalise
from models.preprocess import Pixels, preprocess
from tests.fakes.images import random_image

DTYPES = ("float32", "bfloat16")


def images(checkpoint: Path, count: int) -> list[Pixels]:
    preprocessing = read_checkpoint(checkpoint).metadata.preprocessing
    return [preprocess(random_image(seed), preprocessing) for seed in range(count)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_answers_do_not_depend_on_the_company(checkpoint: Path, dtype: str) -> None:
    """An image's probabilities are the same alone and in any batch: to 1e-5 in float32, 1e-2 in bfloat16."""
    classifier = load_classifier(read_checkpoint(checkpoint), "cpu", dtype)
    batch = images(checkpoint, 17)
    together = torch.from_numpy(classifier.compute_logits(batch)).softmax(1)
    tolerance = 1e-5 if dtype == "float32" else TOLERANCE[torch.bfloat16]
    for size in (1, 2, 3, 8):
        for start in range(0, 17 - size, size):
            part = torch.from_numpy(classifier.compute_logits(batch[start : start + size])).softmax(1)
            assert torch.allclose(part, together[start : start + size], atol=tolerance, rtol=0)
            assert torch.equal(part.argmax(1), together[start : start + size].argmax(1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_batch_may_hold_pixels_and_normalised_pixels(checkpoint: Path, dtype: str) -> None:
    """Each image gets its own answer, in its place, however it came."""
    loaded = read_checkpoint(checkpoint)
    classifier = load_classifier(loaded, "cpu", dtype)
    batch = images(checkpoint, 5)
    normalised = normalise(torch.from_numpy(np.stack(batch)), loaded.metadata.preprocessing).numpy()
    expected = torch.from_numpy(classifier.compute_logits(batch)).softmax(1)
    for as_tensors in ((0,), (1, 3), (4, 2, 0), range(5)):
        mixed = [normalised[index] if index in as_tensors else pixels for index, pixels in enumerate(batch)]
        found = torch.from_numpy(classifier.compute_logits(mixed)).softmax(1)
        assert torch.allclose(found, expected, atol=1e-5 if dtype == "float32" else TOLERANCE[torch.bfloat16], rtol=0)


def test_fusing_changes_nothing(checkpoint: Path) -> None:
    """The served network gives the trained network's logits."""
    loaded = read_checkpoint(checkpoint)
    batch = images(checkpoint, 4)
    with torch.inference_mode():
        trained = restore_model(loaded)(normalise(torch.from_numpy(np.stack(batch)), loaded.metadata.preprocessing))
    served = load_classifier(loaded, "cpu", "float32").compute_logits(batch)
    assert np.allclose(served, trained.numpy(), atol=1e-4)


def test_the_batch_size_is_bounded(checkpoint: Path) -> None:
    """max_batch bounds what autotuning may find."""
    assert load_classifier(read_checkpoint(checkpoint), "cpu", "float32", 2).max_batch_size <= 2
    assert load_classifier(read_checkpoint(checkpoint), "cpu", "float32").max_batch_size >= 1


def test_another_answer_than_the_trained_one_is_refused(checkpoint: Path) -> None:
    """A checkpoint whose golden sample comes out differently is refused, with the file's name and the fault."""
    loaded = read_checkpoint(checkpoint)
    loaded.state["head.2.bias"][0] += 1
    with pytest.raises(CheckpointError, match=rf"{checkpoint.name}.* golden sample.* cpu in torch\.float32"):
        load_classifier(loaded, "cpu", "float32")


def test_auto_falls_back_to_float32(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the faster precision moves the golden sample's probabilities too far, float32 serves."""
    monkeypatch.setattr("app.serving.classifier._candidate_dtypes", lambda _: [torch.bfloat16, torch.float32])
    monkeypatch.setitem(TOLERANCE, torch.bfloat16, 0.0)
    assert load_classifier(read_checkpoint(checkpoint), "cpu", "auto").dtype is torch.float32


def test_auto_falls_back_where_torch_lacks_a_kernel(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On CPUs torch has no response normalisation in bfloat16: column A-LRN is served in float32."""
    monkeypatch.setattr("app.serving.classifier._candidate_dtypes", lambda _: [torch.bfloat16, torch.float32])
    described = read_checkpoint(checkpoint).metadata
    architecture = replace(described.architecture, name="vgg11_lrn")
    network = build_network(architecture)
    golden = record_golden_sample(network, described.preprocessing, random_image())
    described = replace(described, architecture=architecture, golden=golden)
    loaded = Checkpoint(checkpoint, described, network.state_dict(), "")
    assert load_classifier(loaded, "cpu", "auto").dtype is torch.float32
    with pytest.raises(CheckpointError, match=r"golden sample.* in torch\.bfloat16"):
        load_classifier(loaded, "cpu", "bfloat16")


def test_the_golden_check_notices_a_network_that_changed(checkpoint: Path) -> None:
    """A classifier whose weights change in memory fails its golden check; one with NaN logits too."""
    classifier = load_classifier(read_checkpoint(checkpoint), "cpu", "float32")
    assert classifier.passes_golden_check()
    for bias in (1e3, float("nan")):
        with torch.no_grad():
            classifier._model.head[2].bias[0] = bias  # type: ignore[index,union-attr]
        assert not classifier.passes_golden_check()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_on_a_gpu_everything_is_on_the_gpu(checkpoint: Path, dtype: torch.dtype) -> None:
    """Placement, checked without a GPU: a fake one refuses to mix its tensors with the CPU's."""
    loaded = read_checkpoint(checkpoint)
    with FakeTensorMode(allow_non_fake_inputs=True):
        classifier = Classifier(fuse(restore_model(loaded)), loaded.metadata, torch.device("cuda"), dtype)
        logits = classifier.forward(torch.zeros(2, 32, 32, 3, dtype=torch.uint8, device="cuda"))
    assert logits.device.type == "cuda"
    assert (logits.shape, logits.dtype) == ((2, 4), torch.float32)
    assert {weight.device.type for weight in classifier._model.parameters()} == {"cuda"}
    assert {weight.dtype for weight in classifier._model.parameters()} == {dtype}


@pytest.mark.gpu
def test_a_gpu_gives_the_same_answers(checkpoint: Path) -> None:
    """The GPU's probabilities are the CPU's, within the precision's tolerance."""
    batch = images(checkpoint, 9)
    on_cpu = torch.from_numpy(
        load_classifier(read_checkpoint(checkpoint), "cpu", "float32").compute_logits(batch)
    ).softmax(1)
    for dtype in ("float32", "auto"):
        classifier: Classifier = load_classifier(read_checkpoint(checkpoint), "cuda", dtype)
        on_gpu = torch.from_numpy(classifier.compute_logits(batch)).softmax(1)
        assert torch.allclose(on_gpu, on_cpu, atol=TOLERANCE[classifier.dtype], rtol=0)
