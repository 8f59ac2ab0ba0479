"""What a data set must have before its images are read, and what is said of it."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from training.data.items import DataError, Fault, list_some
from training.memory import check_memory, training_bytes
from training.recipe import Recipe


def check_faults(faults: Sequence[Fault], recipe: Recipe) -> list[Path]:
    """The files to leave out. Raises DataError if the recipe does not allow that."""
    if faults and not recipe.skip_unreadable:
        first, *others = faults
        names = list_some([str(fault.path) for fault in others])
        more = f", and there are {len(others):,} more such files: {names}" if others else ""
        raise DataError(f"{first.path} {first.why}{more}; remove what is no image, or add --skip-unreadable")
    return [fault.path for fault in faults]


def check_room(recipe: Recipe, num_classes: int, counts: Mapping[str, int], available_bytes: int) -> None:
    """Raises TrainingError if so many images of each split, or these and the network's training, do not fit."""
    sides = {name: recipe.train_side if name == "train" else recipe.size for name in counts}
    images_bytes = sum(count * sides[name] ** 2 for name, count in counts.items()) * recipe.channels
    images = f"{sum(counts.values()):,} images at a size of {recipe.size}"
    check_memory(images_bytes, images, "use fewer images or a smaller size", available_bytes)
    advice = f"a batch_size below {recipe.batch_size}, a smaller size or a smaller width needs less"
    both = images_bytes + training_bytes(recipe, num_classes)
    check_memory(both, f"{images} and training {recipe.architecture} on them", advice, available_bytes)


def note_missing_classes(indices: Mapping[str, Sequence[int]], labels: Sequence[str]) -> Iterable[str]:
    """A sentence for each split that has no image of some classes; `indices` are its images' labels."""
    for name, of_split in indices.items():
        found = set(of_split)
        if missing := [label for index, label in enumerate(labels) if index not in found]:
            yield f"{name} has no image of {len(missing):,} classes: {list_some(missing, 5)}"
