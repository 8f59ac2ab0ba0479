"""Images that a table lists: a CSV file, or Hugging Face's folder with its metadata.

Owns which row gives which image, label and split. Every problem names the table and the line.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from training.data.folders import METADATA, describe_walk
from training.data.items import SPLITS, DataError, Item, Source, expand_user, find_split, list_some, list_split_names
from training.data.labels import check_labels, normalise_label
from training.data.tables import Row, Table, read_table
from training.data.walk import Walker

CSV_COLUMNS, CSV_OPTIONAL = ("path", "label"), ("split",)
FILE_NAME, LABEL = "file_name", "label"


@dataclass(slots=True)
class _Listing:
    """What the rows so far have given: (image, label) pairs by split, and where each image was listed."""

    parts: dict[str, list[tuple[Path, str]]] = field(default_factory=dict)
    lines: dict[Path, tuple[Table, Row, str]] = field(default_factory=dict)

    def add(self, table: Table, row: Row, path: Path, label: str, split: str) -> None:
        """Raises DataError for a file that is not there or that is listed already."""
        text = row.cells[table.columns[0]]
        if not path.is_file():
            raise table.fail(row.line, f"{text} is {_describe_absence(path, text)}")
        real = path.resolve()
        if real in self.lines:
            before_table, before, before_label = self.lines[real]
            where = f"line {before.line}" + ("" if before_table is table else f" of {before_table.path}")
            labels = "again" if before_label == label else f"as {label}, but as {before_label} before"
            raise table.fail(row.line, f"{text} is listed {labels}, in {where}")
        self.lines[real] = table, row, label
        self.parts.setdefault(split, []).append((path, label))

    def to_source(self, where: Path, root: Path, notes: tuple[str, ...], walker: Walker | None = None) -> Source:
        """The source, with its labels in sorted order. Raises DataError."""
        if "train" not in self.parts:
            raise DataError(f"{where} has images for {', '.join(self.parts)}, but none for train")
        labels = sorted({label for pairs in self.parts.values() for _, label in pairs})
        check_labels(labels, where)
        trained = {label for _, label in self.parts["train"]}
        if lacking := [label for label in labels if label not in trained]:
            raise DataError(f"{where} has no image of {list_some(lacking, 5)} for train, but has for another split")
        index = {label: i for i, label in enumerate(labels)}
        parts: dict[str, list[Item]] = {
            split: [(path, index[label]) for path, label in self.parts[split]]
            for split in SPLITS
            if split in self.parts
        }
        return Source(tuple(labels), parts, root, tuple(walker.faults) if walker else (), notes)


def read_csv_file(path: Path) -> Source:
    """The images of a CSV file with the columns path, label and, optionally, split. Raises DataError.

    Paths are relative to the file's folder. A table without splits is all for training.
    """
    path = expand_user(path)
    table = read_table(path, CSV_COLUMNS, CSV_OPTIONAL)
    listing = _Listing()
    for row in table.rows:
        split = _read_split(table, row) if "split" in table.columns else "train"
        label = normalise_label(row.cells["label"])
        listing.add(table, row, path.parent / expand_user(Path(row.cells["path"])), label, split)
    return listing.to_source(path, path.parent, _note_columns(table))


def read_image_folder(path: Path) -> Source:
    """Hugging Face's layout: PATH or PATH/SPLIT has metadata.csv or metadata.jsonl with file_name and label.

    Files are relative to the folder of the metadata. If the metadata lie in PATH, the first folder in a file's name
    tells its split, if one of its folders has the name of a split. Raises DataError, also for images without a row.
    """
    root = Path(os.path.normpath(expand_user(path)))
    if not root.is_dir():
        raise DataError(f"{root} is not a folder")
    walker = Walker(root, others_are_faults=False)
    folders, _ = walker.list_folder(root)
    splits = {folder.name: split for folder in folders if (split := find_split(folder.name))}
    tables = [(folder, table) for folder in (root, *folders) if (table := _read_metadata(folder))]
    if not tables:
        raise DataError(f"{root} has no metadata.csv or metadata.jsonl, neither in it nor in the folder of a split")
    listing = _Listing()
    for folder, table in tables:
        for row in table.rows:
            file = Path(os.path.normpath(folder / row.cells[FILE_NAME]))  # without `..`; links are followed later
            if not file.is_relative_to(root):
                raise table.fail(row.line, f"{row.cells[FILE_NAME]} lies outside of {root}")
            split = _find_split_of(file, root, splits, table, row)
            listing.add(table, row, file, normalise_label(row.cells[LABEL]), split)
    _check_all_listed(root, walker, listing)
    tables_paths = [table.path for _, table in tables]
    walker.unused = [path for path in walker.unused if path not in tables_paths]
    walker.nested = {}  # a folder is no label here
    notes = (*(note for _, table in tables for note in _note_columns(table)), *describe_walk(walker, root))
    return listing.to_source(root, root, notes, walker)


def _read_metadata(folder: Path) -> Table | None:
    found = [folder / name for name in METADATA if (folder / name).is_file()]
    if len(found) > 1:
        raise DataError(f"{folder} has {found[0].name} and {found[1].name}, but only one of them can be right")
    if found and found[0].suffix == ".parquet":
        raise DataError(f"{found[0]} cannot be read: metadata must be metadata.csv or metadata.jsonl")
    return read_table(found[0], (FILE_NAME, LABEL)) if found else None


def _read_split(table: Table, row: Row) -> str:
    word = row.cells["split"]
    if (split := find_split(word)) is None:
        raise table.fail(row.line, f"split is {word!r}, but must be one of {list_split_names()}")
    return split


def _find_split_of(file: Path, root: Path, splits: dict[str, str], table: Table, row: Row) -> str:
    if not splits:
        return "train"
    first = file.relative_to(root).parts[0]
    if first not in splits:
        raise table.fail(row.line, f"{row.cells[FILE_NAME]} lies in no split's folder ({', '.join(splits)})")
    return splits[first]


def _check_all_listed(root: Path, walker: Walker, listing: _Listing) -> None:
    """An image without a row has no label. Files that are no images need no row."""
    folders, files = walker.list_folder(root)
    images = [path for path in files if walker.is_image(path)]
    images += [path for folder in folders for path in walker.list_images(folder)]
    if unlisted := [path for path in images if path.resolve() not in listing.lines]:
        names = list_some([str(path.relative_to(root)) for path in unlisted])
        raise DataError(f"{root} has {len(unlisted):,} images without a row in the metadata: {names}")


def _note_columns(table: Table) -> tuple[str, ...]:
    if not table.others:
        return ()
    return (f"not used, columns of {table.path.name} ({len(table.others):,}): {', '.join(table.others)}",)


def _describe_absence(path: Path, text: str) -> str:
    if "://" in text:
        return "an address, but must be a file's path"
    if path.is_symlink():
        return "a link that cannot be followed"
    if path.is_dir():
        return "a folder, but must be an image"
    return "not there" + ("; folders in it must be separated by /" if "\\" in text else f" ({path})")
