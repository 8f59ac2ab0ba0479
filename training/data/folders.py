"""Folders of images: PATH/LABEL/..., or PATH/SPLIT/LABEL/... under the usual names of splits.

What is not understood is an error that names it. Owns which folder means which split and which label.
"""

import os
from pathlib import Path

from training.data.items import SPLITS, DataError, Item, Source, expand_user, find_split, list_some, list_split_names
from training.data.labels import check_labels, normalise_label
from training.data.walk import Scan, Walker

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # Hugging Face's tables, which lie beside the images

Classes = dict[str, list[Path]]  # the images of each label


def read_folder(path: Path, scan: Scan = os.scandir) -> Source:
    """PATH/LABEL/..., or PATH/train/LABEL/... and some of PATH/val, PATH/calibration, PATH/test. Raises DataError."""
    root = expand_user(path)
    walker = Walker(root, scan) if root.is_dir() else None
    if walker is None:
        raise DataError(f"{root} is not a folder")
    folders = find_split_folders(root, walker) or {"train": root}
    if "train" not in folders:
        raise DataError(f"{root} has {next(iter(folders.values())).name}/, but no train/")
    _check_several(folders["train"], walker)
    parts = {name: find_classes(folder, walker) for name, folder in folders.items()}
    _check_same_labels(root, folders, parts)
    items = {name: list_items(classes, list(parts["train"])) for name, classes in parts.items()}
    return Source(tuple(parts["train"]), items, root, tuple(walker.faults), describe_walk(walker, root))


def find_split_folders(root: Path, walker: Walker) -> dict[str, Path]:
    """The folders of `root` by the split that each one's name means; empty if none means one. Raises DataError."""
    folders, files = walker.list_folder(root)
    found: dict[str, Path] = {}
    others = [folder.name for folder in folders if find_split(folder.name) is None]
    for folder in folders:
        if (split := find_split(folder.name)) is None:
            continue
        if split in found:
            raise DataError(f"{root} has {found[split].name}/ and {folder.name}/, which both mean the split {split}")
        found[split] = folder
    if found and others:
        raise DataError(
            f"{root} has {next(iter(found.values())).name}/, which is a split, and beside it "
            f"{list_some([f'{name}/' for name in others])}; splits are {list_split_names()}; if all of them are labels,"
            " put them into one folder train/"
        )
    if found:
        _check_beside(root, files, walker)
    return {name: found[name] for name in SPLITS if name in found}


def find_classes(folder: Path, walker: Walker) -> Classes:
    """The images of each class folder, at any depth, by label in sorted order. Raises DataError."""
    folders, files = walker.list_folder(folder)
    _check_beside(folder, files, walker)
    if not folders:
        raise DataError(f"{folder} has no class folders: each label needs a folder of its images")
    check_labels((inner.name for inner in folders), folder)
    by_label = {normalise_label(inner.name): inner for inner in folders}
    classes = {label: walker.list_images(by_label[label]) for label in sorted(by_label)}
    _check_nested(by_label, walker)
    return classes


def list_items(classes: Classes, labels: list[str]) -> list[Item]:
    """The images with their labels' indices, in the order of the labels."""
    return [(path, index) for index, label in enumerate(labels) for path in classes[label]]


def describe_walk(walker: Walker, root: Path) -> tuple[str, ...]:
    """What was passed over in the folders, a sentence for each kind."""

    def names(paths: list[Path]) -> str:
        return list_some([str(path.relative_to(root)) for path in paths])

    nested = [path for folders in walker.nested.values() for path in folders if path not in walker.repeated]
    notes = [
        (walker.litter, "passed over, hidden or of the system"),
        (walker.repeated, "passed over, links to folders that are listed already"),
        (nested, "folders in class folders, whose images have the outer folder's label"),
        (walker.unused, "not used, files that are no images"),
    ]
    return tuple(f"{what} ({len(paths):,}): {names(paths)}" for paths, what in notes if paths)


def _check_several(folder: Path, walker: Walker) -> None:
    """One folder alone is no data set, but often the folder that an archive was packed as."""
    inner, _ = walker.list_folder(folder)
    if len(inner) == 1:
        name = inner[0].name
        raise DataError(f"{folder} has one folder alone, so {name} is the only class; if the labels lie in it, name it")


def _check_beside(folder: Path, files: list[Path], walker: Walker) -> None:
    """Files beside class folders have no label: images are an error, and a table of labels is for another reader."""
    for path in files:
        if path.name.casefold() in METADATA:
            raise DataError(f"{path} lies beside the images; read the folder as imagefolder:PATH, or remove the file")
    images = [path.name for path in files if walker.is_image(path)]
    if images:
        raise DataError(f"{folder} has images outside of its class folders, which have no label: {list_some(images)}")
    walker.unused += files


def _check_nested(by_label: dict[str, Path], walker: Walker) -> None:
    for label, folder in by_label.items():
        for inner in walker.nested[folder]:
            name = normalise_label(inner.name)
            if find_split(name):
                raise DataError(f"{inner} has the name of a split, but lies in {folder.name}/, which is a label")
            if name in by_label and name != label:
                raise DataError(f"{inner} has the name of the label {name}, but lies in {folder.name}/")


def _check_same_labels(root: Path, folders: dict[str, Path], parts: dict[str, Classes]) -> None:
    labels, train = parts["train"].keys(), folders["train"].name
    for name, classes in parts.items():
        if differing := sorted(labels ^ classes.keys()):
            sides = [f"{label} (only in {train if label in labels else folders[name].name})" for label in differing]
            between = f"{train}/ and {folders[name].name}/"
            raise DataError(f"{root} has class folders that differ between {between}: {list_some(sides, 5)}")
