"""Tables of labelled images: CSV, and JSON lines. Every problem names the file and the line."""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data.items import DataError

MAX_CELL_CHARACTERS = 4096
SEPARATORS = {";": "semicolons", "\t": "tabs"}


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table, counted from 1, and the text of its wanted columns by name."""

    line: int
    cells: dict[str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of the file `path`, the wanted columns that it has, and those that nobody asked for."""

    path: Path
    rows: list[Row]
    columns: tuple[str, ...]
    others: tuple[str, ...]

    def fail(self, line: int, fault: str) -> DataError:
        """The error that names the file, the line and the fault."""
        return DataError(f"{self.path}, line {line}: {fault}")


def read_table(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> Table:
    """The rows of a CSV or JSON lines file, whose cells have no white space at their ends. Raises DataError."""
    columns: list[str] = []
    others: list[str] = []
    rows = []
    for line, values in (_read_json_lines if path.suffix == ".jsonl" else _read_csv)(path, (*needed, *optional)):
        empty = Table(path, [], (), ())
        if missing := [name for name in needed if name not in values]:
            raise empty.fail(line, f"there is no column {missing[0]}; it has {', '.join(map(str, values)) or 'none'}")
        columns = columns or [name for name in (*needed, *optional) if name in values]
        if absent := [name for name in columns if name not in values]:
            raise empty.fail(line, f"there is no {absent[0]}, but the lines before have one")
        others += [name for name in values if name not in (*columns, *others)]
        cells = {name: _to_text(values[name], name, line, empty) for name in columns}
        rows.append(Row(line, cells))
    if not rows:
        raise DataError(f"{path} has no rows")
    return Table(path, rows, tuple(columns), tuple(others))


def _read_csv(path: Path, wanted: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    fail = Table(path, [], (), ()).fail
    with _open_text(path) as lines:
        reader = csv.reader(lines, strict=True)
        header: list[str] = []
        while True:
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise fail(reader.line_num, f"this is no CSV ({error})") from error
            if cells is None:
                return
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = _read_header([cell.strip() for cell in cells], wanted, path, reader.line_num)
            elif len(cells) != len(header):
                raise fail(reader.line_num, f"there are {len(cells)} cells, but {len(header)} columns")
            else:
                yield reader.line_num, dict(zip(header, cells, strict=True))


def _read_header(names: list[str], wanted: Sequence[str], path: Path, line: int) -> list[str]:
    """The columns' names; the wanted ones in lower case."""
    folded = [name.casefold() if name.casefold() in wanted else name for name in names]
    fail = Table(path, [], (), ()).fail
    if twice := [name for name in folded if folded.count(name) > 1]:
        raise fail(line, f"the column {twice[0]} is there {folded.count(twice[0])} times")
    if len(folded) == 1:
        for separator, name in SEPARATORS.items():
            if separator in folded[0]:
                raise fail(line, f"the columns are separated by {name}, but must be by commas")
    if not set(wanted) & set(folded):
        raise fail(line, f"the first line must name the columns ({', '.join(wanted)}), but is {', '.join(names)!r}")
    return folded


def _read_json_lines(path: Path, _wanted: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    fail = Table(path, [], (), ()).fail
    with _open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise fail(number, f"this is no JSON ({error})") from error
            if not isinstance(values, dict):
                raise fail(number, "this is no JSON object")
            yield number, values


class _TextLines:
    """A file's lines as text. A byte-order mark at its start is passed over."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.file = path.open("rb")
        except OSError as error:
            raise DataError(f"{path} cannot be opened ({error.strerror})") from error

    def __enter__(self) -> Iterator[str]:
        return self._decode()

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def _decode(self) -> Iterator[str]:
        for number, line in enumerate(self.file, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataError(f"{self.path}, line {number}: this is not UTF-8 text") from error
            if "\0" in text:
                raise DataError(f"{self.path}, line {number}: there is a NUL character; the file must be UTF-8 text")
            yield text


def _open_text(path: Path) -> _TextLines:
    return _TextLines(path)


def _to_text(value: Any, name: str, line: int, table: Table) -> str:
    """The cell as text. A whole number, as a label of Hugging Face is, becomes its digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise table.fail(line, f"{name} is {value!r}, but must be text or a whole number")
    text = value.strip()
    if not text:
        raise table.fail(line, f"{name} is empty")
    if len(text) > MAX_CELL_CHARACTERS:
        raise table.fail(line, f"{name} has {len(text):,} characters, but may have {MAX_CELL_CHARACTERS:,}")
    return text
