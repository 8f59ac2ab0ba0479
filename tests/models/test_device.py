"""Where a run computes: what can be asked for, and what is filled in."""

import pytest
import torch

from models.device import find_device
from training.device import resolve_precision
from training.recipes import make_recipe

CPU = torch.device("cpu")


def test_the_cpu_is_always_there() -> None:
    """It can be asked for by name; `auto` finds a device on every machine."""
    assert find_device("cpu") == CPU
    assert find_device("auto").type in {"cpu", "cuda"}


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "cpu:3", "meta", ""])
def test_a_device_that_is_not_there_is_named(name: str) -> None:
    """The error names the device and those that can be had."""
    with pytest.raises(ValueError, match=f"device is {name!r}, but must be one of auto, cpu"):
        find_device(name)


def test_what_is_left_to_the_machine_is_filled_in() -> None:
    """A resolved recipe says with how many threads and in which precision the run computes."""
    recipe = resolve_precision(make_recipe("cifar10", {}), CPU)
    assert recipe.precision in {"float32", "bfloat16"}
    assert recipe.threads == torch.get_num_threads()


def test_what_is_given_stays() -> None:
    """A resolved recipe keeps the threads and the precision that were asked for."""
    for precision in ("float32", "bfloat16"):
        recipe = make_recipe("cifar10", {"precision": precision, "threads": 3})
        assert resolve_precision(recipe, CPU) == recipe
