"""Images that a table lists: CSV files and Hugging Face's metadata, and how each problem names its line."""

import json
from pathlib import Path

import pytest

from tests.fakes.images import random_image
from training.data.items import DataError, Source
from training.data.listed import read_csv_file, read_image_folder


def images(folder: Path, count: int = 4) -> Path:
    """So many images, named by their number."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        random_image(i).save(folder / f"{i}.png")
    return folder


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def listed(source: Source) -> dict[str, list[tuple[str, str]]]:
    """(file, label) by split."""
    return {
        split: [(path.name, source.labels[label]) for path, label in items if isinstance(path, Path)]
        for split, items in source.parts.items()
    }


def test_a_table_gives_paths_and_labels(tmp_path: Path) -> None:
    """Paths are relative to the table. Byte-order mark, quotes, spaces, empty lines and other columns do no harm."""
    images(tmp_path / "in")
    text = '\ufeffPath, width ,"label"\r\n"in/0.png",40,"cat, small"\r\n\r\nin/1.png , 40, dog\r\n'
    source = read_csv_file(write(tmp_path / "a.csv", text))
    assert listed(source) == {"train": [("0.png", "cat, small"), ("1.png", "dog")]}
    assert source.root == tmp_path
    assert source.notes == ("not used, columns of a.csv (1): width",)


def test_a_table_can_give_splits(tmp_path: Path) -> None:
    """Under their usual names; labels are those of all splits."""
    images(tmp_path)
    text = "label,split,path\ndog,Train,0.png\ncat,train,1.png\ncat,valid,2.png\ndog,TEST,3.png\n"
    source = read_csv_file(write(tmp_path / "a.csv", text))
    assert listed(source) == {
        "train": [("0.png", "dog"), ("1.png", "cat")],
        "val": [("2.png", "cat")],
        "test": [("3.png", "dog")],
    }


HEAD = "path,label,split\n0.png,cat,train\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"a\.csv has no rows"),
        ("path,label\n", r"a\.csv has no rows"),
        ("path,name\n0.png,cat\n", "line 2: there is no column label; it has path, name"),
        ("0.png,cat\n", "line 1: the first line must name the columns"),
        ("path;label\n0.png;cat\n", "line 1: the columns are separated by semicolons, but must be by commas"),
        ("path,label,label\n", "line 1: the column label is there 2 times"),
        (HEAD + "1.png,dog\n", "line 3: there are 2 cells, but 3 columns"),
        (HEAD + "\n1.png,,train\n", "line 4: label is empty"),
        (HEAD + "1.png,dog,\n", "line 3: split is empty"),
        (HEAD + "1.png,dog,holdout\n", "line 3: split is 'holdout', but must be one of train, training"),
        (HEAD + "9.png,dog,train\n", r"line 3: 9\.png is not there"),
        (HEAD + ".,dog,train\n", r"line 3: \. is a folder"),
        (HEAD + "in\\9.png,dog,train\n", "line 3: .* folders in it must be separated by /"),
        (HEAD + "https://example.org/1.png,dog,train\n", "line 3: .* is an address, but must be a file's path"),
        (HEAD + "./0.png,cat,train\n", r"line 3: \./0\.png is listed again, in line 2"),
        (HEAD + "0.png,dog,train\n", r"line 3: 0\.png is listed as dog, but as cat before, in line 2"),
        (HEAD + "1.png,dog,test\n", r"has no image of dog for train, but has for another split"),
        ("path,label,split\n0.png,cat,test\n", "has images for test, but none for train"),
        (HEAD + "1.png,Cat,train\n", "has the labels 'Cat' and 'cat', which look alike"),
        (HEAD + '1.png,"dog,train\n', "line 3: this is no CSV"),
        (HEAD.encode() + b"1.png,caf\xe9,train\n", "line 3: this is not UTF-8 text"),
        (HEAD.encode("utf-16"), "line 1: this is not UTF-8 text"),
        (HEAD + "1.png,d\0g,train\n", "line 3: there is a NUL character"),
        (HEAD + f"1.png,{'x' * 5000},train\n", "line 3: label has 5,000 characters, but may have 4,096"),
    ],
)
def test_each_problem_of_a_table_names_its_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    """The line, the cell and what it must be."""
    images(tmp_path)
    with pytest.raises(DataError, match=message) as raised:
        read_csv_file(write(tmp_path / "a.csv", text))
    assert str(tmp_path / "a.csv") in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With the reason."""
    with pytest.raises(DataError, match=r"none\.csv cannot be opened \(No such file or directory\)"):
        read_csv_file(tmp_path / "none.csv")


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_an_image_folder_has_its_metadata_in_each_split(tmp_path: Path) -> None:
    """CSV or JSON lines; numbers as labels are text."""
    write(images(tmp_path / "train", 2) / "metadata.csv", "file_name,label\n0.png,3\n1.png,12\n")
    rows = ({"file_name": "0.png", "label": 12}, {"label": "3", "file_name": "1.png"})
    write(images(tmp_path / "validation", 2) / "metadata.jsonl", lines(*rows))
    (tmp_path / "README.md").touch()
    source = read_image_folder(tmp_path)
    assert listed(source) == {"train": [("0.png", "3"), ("1.png", "12")], "val": [("0.png", "12"), ("1.png", "3")]}


def test_an_image_folder_can_have_one_table(tmp_path: Path) -> None:
    """Then the folders in the files' names tell the splits, and words in the files' names tell nothing."""
    images(tmp_path / "train", 2)
    images(tmp_path / "test", 1)
    (tmp_path / "train" / "0.png").rename(tmp_path / "train" / "a test.png")
    text = "file_name,label\ntrain/a test.png,cat\ntrain/1.png,dog\ntest/0.png,dog\n"
    write(tmp_path / "metadata.csv", text)
    assert listed(read_image_folder(tmp_path)) == {
        "train": [("a test.png", "cat"), ("1.png", "dog")],
        "test": [("0.png", "dog")],
    }


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"has no metadata\.csv or metadata\.jsonl"),
        ({"metadata.csv": "x", "metadata.jsonl": "x"}, r"metadata\.csv and metadata\.jsonl, but only one"),
        ({"metadata.parquet": "x"}, r"metadata\.parquet cannot be read: metadata must be"),
        ({"metadata.csv": "file_name,label\n0.png,cat\n"}, r"has 3 images without a row in the metadata: 1\.png"),
        ({"metadata.csv": "file_name,text\n0.png,cat\n"}, "line 2: there is no column label"),
        ({"metadata.csv": "file_name,label\n../0.png,cat\n"}, r"line 2: \.\./0\.png lies outside of"),
        ({"metadata.csv": "file_name,label\n/etc/0.png,cat\n"}, "line 2: /etc/0\\.png lies outside of"),
        ({"metadata.jsonl": "{\n"}, "line 1: this is no JSON"),
        ({"metadata.jsonl": "[]\n"}, "line 1: this is no JSON object"),
        ({"metadata.jsonl": lines({"file_name": "0.png", "label": ["cat"]})}, r"label is \['cat'\], but must be text"),
        ({"metadata.jsonl": lines({"file_name": "0.png", "label": True})}, "label is True, but must be text"),
        ({"metadata.jsonl": lines({"file_name": "9.png", "label": "cat"})}, r"line 1: 9\.png is not there"),
    ],
)
def test_each_problem_of_metadata_is_named(tmp_path: Path, files: dict[str, str], message: str) -> None:
    """An image without a row and a row without an image are both errors."""
    images(tmp_path)
    for name, text in files.items():
        write(tmp_path / name, text)
    with pytest.raises(DataError, match=message):
        read_image_folder(tmp_path)


def test_a_row_outside_of_the_splits_is_named(tmp_path: Path) -> None:
    """It would be in no split."""
    images(tmp_path / "train", 1)
    images(tmp_path / "more", 1)
    write(tmp_path / "metadata.csv", "file_name,label\ntrain/0.png,cat\nmore/0.png,dog\n")
    with pytest.raises(DataError, match=r"line 3: more/0\.png lies in no split's folder \(train\)"):
        read_image_folder(tmp_path)
