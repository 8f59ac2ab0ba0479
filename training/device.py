"""With how many threads and in which precision a run computes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from models.device import has_fast_bfloat16
from training.errors import TrainingError
from training.recipe import Recipe


def resolve_precision(recipe: Recipe, device: torch.device) -> Recipe:
    """The recipe with what it leaves to the machine filled in: it then says what was really run."""
    fast = "bfloat16" if has_fast_bfloat16(device) else "float32"
    precision = fast if recipe.precision == "auto" else recipe.precision
    return recipe.with_settings(precision=precision, threads=recipe.threads or torch.get_num_threads())


def configure_torch(recipe: Recipe) -> None:
    """Makes torch compute as a resolved recipe says, and the same at every run."""
    torch.set_num_threads(recipe.threads)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


# How torch and C++ say that the CPU's memory is not enough, in a RuntimeError.
NO_MEMORY = ("can't allocate memory", "bad_alloc", "bad allocation", "Cannot allocate memory")


@contextmanager
def report_out_of_memory(device: torch.device) -> Iterator[None]:
    """Raises TrainingError where what the block does is too much for the device's memory, or for the machine's."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        where = device if isinstance(error, torch.OutOfMemoryError) else "the machine"
        if isinstance(error, RuntimeError) and where != device and not any(word in str(error) for word in NO_MEMORY):
            raise
        raise TrainingError(f"{where} is out of memory; a smaller batch_size, size or width may help") from error
