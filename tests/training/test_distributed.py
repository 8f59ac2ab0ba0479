"""Several processes that train one network: the same result, one that writes, and what happens when one is lost."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.checkpoint import Checkpoint, read_checkpoint
from tests.fakes.runs import Killer, digits
from training.__main__ import main
from training.distributed import Processes, SyncBatchNorm, convert_sync_batchnorm, join_processes
from training.errors import TrainingError
from training.loop import train

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
SETTINGS = ["--epochs", "1", "--width", "0.125", "--precision", "float32", "--lr", "0.01", "--balance", "weights"]


@pytest.fixture(scope="module")
def one_and_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Checkpoint, str]:
    """The checkpoints of one process and of two with the same recipe, and what the two said."""
    folder = tmp_path_factory.mktemp("team")
    command = ["--data", "digits", *SETTINGS]
    assert main([*command, "--out", str(folder / "one.safetensors")]) == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(  # noqa: S603
        [*torchrun, "-m", "training", *command, "--out", str(folder / "two.safetensors")],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return read_checkpoint(folder / "one.safetensors"), read_checkpoint(folder / "two.safetensors"), done.stdout


def test_two_processes_end_with_the_weights_of_one(one_and_two: tuple[Checkpoint, Checkpoint, str]) -> None:
    """They share each batch, BatchNorm's statistics and the gradients: only the rounding of sums differs.

    Of that there is some 5e-4 of a convolution's norm after these 17 steps; without shared statistics it is 3e-3.
    """
    one, two, _ = one_and_two
    convolutions = [name for name, tensor in one.state.items() if tensor.ndim == 4]
    assert len(convolutions) == 8
    for name in convolutions:
        difference = (one.state[name] - two.state[name]).norm() / one.state[name].norm()
        assert difference < 1.5e-3, (name, difference)
    ours, theirs = (checkpoint.metadata.history[0] for checkpoint in (one, two))
    assert theirs["train_loss"] == pytest.approx(ours["train_loss"], rel=1e-4)
    assert one.metadata.dataset["fingerprint"] == two.metadata.dataset["fingerprint"]


def test_one_process_alone_prints(one_and_two: tuple[Checkpoint, Checkpoint, str]) -> None:
    """The line that says what was written comes once."""
    _, two, said = one_and_two
    assert said.count("wrote ") == 1
    assert f"version {two.version}" in said


def test_without_torchrun_a_process_is_alone() -> None:
    """It leads, has all rows, and sums over nobody else."""
    with join_processes(CPU) as processes:
        assert (processes.rank, processes.size, processes.is_main_process) == (0, 1, True)
        assert processes.all_reduce_sum(1.5, 2) == [1.5, 2]
        rows = torch.arange(5)
        assert torch.equal(processes.shard(rows), rows)
        assert torch.equal(processes.gather(rows), rows)


def test_shares_are_all_rows_in_order() -> None:
    """Together the processes have every row once."""
    rows = torch.arange(11)
    shares = [Processes(rank, 4, CPU).shard(rows) for rank in range(4)]
    assert torch.equal(torch.cat(shares), rows)
    assert {len(share) for share in shares} == {2, 3}


def test_a_shared_batch_norm_is_a_batch_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one process it gives torch's outputs, gradients and running statistics, in training and behind it."""
    monkeypatch.setattr("torch.distributed.all_reduce", lambda values: None)
    torch.manual_seed(0)
    plain = nn.Sequential(nn.BatchNorm2d(5), nn.ReLU())
    for weights in plain.parameters():
        nn.init.normal_(weights)
    shared = nn.Sequential(nn.BatchNorm2d(5), nn.ReLU())
    shared.load_state_dict(plain.state_dict())
    convert_sync_batchnorm(shared)
    assert isinstance(shared[0], SyncBatchNorm)
    target = torch.randn(6, 5, 3, 3)
    images = [(3 + 2 * torch.randn(6, 5, 3, 3, generator=torch.Generator().manual_seed(1))) for _ in range(2)]
    for network, x in zip((plain, shared), images, strict=True):
        x.requires_grad_()
        F.mse_loss(network(x), target).backward()  # type: ignore[no-untyped-call]
    assert images[0].grad is not None
    assert images[1].grad is not None
    assert torch.allclose(images[0].grad, images[1].grad, atol=1e-6)
    for ours, theirs in zip(shared.parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-6)
    for name, value in plain.state_dict().items():
        assert torch.allclose(shared.state_dict()[name].double(), value.double(), atol=1e-5), name
    assert torch.allclose(shared.eval()(images[0]), plain.eval()(images[0]), atol=1e-5)


class Bereft(Processes):
    """A team whose other process is gone."""

    def all_reduce_sum(self, *values: float) -> list[float]:
        raise RuntimeError("Connection closed by peer [127.0.0.1]:4242")

    def wrap_ddp(self, model: nn.Module) -> nn.Module:
        return model


def test_a_lost_process_is_one_line() -> None:
    """The others end with a line that says how to go on."""
    dataset, recipe = digits(architecture="vgg11", lr=0.01)
    with pytest.raises(TrainingError, match="another process of the run is lost; --resume goes on"):
        train(dataset, recipe, Bereft(0, 2, CPU), Killer())
