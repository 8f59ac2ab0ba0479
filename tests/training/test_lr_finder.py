"""The range test: rates that grow until the loss does."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from tests.fakes.runs import digits
from training.distributed import Processes
from training.loop import Step
from training.lr_finder import HIGHEST, LOWEST, LrRangeRun, LrTrial, main, run_lr_range, suggest_lr

ALONE = Processes(0, 1, torch.device("cpu"))


def test_rates_grow_until_the_loss_does() -> None:
    """They begin low, grow by the same factor at each step, and end before the highest where the loss rises."""
    dataset, recipe = digits(architecture="vgg11", batch_size=64, clip=1e6)
    trials = run_lr_range(LrRangeRun(dataset, recipe, ALONE), 40)
    rates = [trial.lr for trial in trials]
    assert rates[0] == LOWEST
    factor = (HIGHEST / LOWEST) ** (1 / 39)
    assert all(second / first == pytest.approx(factor) for first, second in pairwise(rates))
    assert len(trials) < 40
    assert LOWEST < suggest_lr(trials) < 1


def test_the_suggestion_keeps_a_margin() -> None:
    """It lies below the rate at which the loss was lowest."""
    assert suggest_lr([LrTrial(0.1, 2.0), LrTrial(0.2, 1.0), LrTrial(0.4, 3.0)]) == pytest.approx(0.05)


def test_the_command_prints_a_table_and_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    """What it suggests can be pasted behind the training command."""
    assert main(["--data", "digits", "--width", "0.125", "--steps", "12", "--batch-size", "256"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| lr | loss |"
    assert lines[-1].startswith("suggested: --lr ")


def test_too_few_steps_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A handful of rates tells nothing."""
    assert main(["--data", "digits", "--steps", "3"]) == 2
    assert "steps is 3, but must be at least 10" in capsys.readouterr().err


def test_given_weights_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--init is not passed over: a checkpoint that is not there is an error."""
    assert main(["--data", "digits", "--init", str(tmp_path / "none.safetensors")]) == 2
    assert "none.safetensors" in capsys.readouterr().err


def test_too_little_memory_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What the device cannot hold ends the command with a line that says what may help."""

    def full(self: LrRangeRun) -> Step:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate ...")

    monkeypatch.setattr(LrRangeRun, "step", full)
    assert main(["--data", "digits", "--width", "0.125"]) == 1
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert line == "error: cpu is out of memory; a smaller batch_size, size or width may help"
