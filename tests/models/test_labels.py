"""Files of class names, in the forms that people have them."""

import json
from pathlib import Path

import pytest

from models.labels import read_labels


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "labels"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_has_one_name_a_line(encoding: str, path: Path) -> None:
    """Byte-order marks, carriage returns and empty lines at the end are no part of a name."""
    path.write_bytes("cat\r\n naïve 猫 \r\n[dog]\r\n\r\n".encode(encoding))
    assert read_labels(path) == ("cat", "naïve 猫", "[dog]")


def test_a_text_may_begin_with_a_bracket(path: Path) -> None:
    """Only what begins as JSON does is taken for JSON."""
    path.write_text("[unknown]\ncat\n")
    assert read_labels(path) == ("[unknown]", "cat")


def test_equal_names_of_a_class_index_are_told_apart(path: Path) -> None:
    """ImageNet has two classes called crane; their identifiers are added."""
    path.write_text(json.dumps({"0": ["n1", "crane"], "1": ["n2", "hen"], "2": ["n3", "crane"]}))
    assert read_labels(path) == ("crane (n1)", "hen", "crane (n3)")


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "has no labels"),
        (b"[]", "has no labels"),
        (b" \n\n", "has no labels"),
        (b'["a", "b"', r"is not JSON \(.*\)"),
        (b"[" * 100_000, "has no labels|is not JSON"),
        (b'["a", 3]', "has 3 for the index 1, but a label must be text"),
        (b'{"0": "a", "2": "b"}', "has 2 labels, but none for the index 1"),
        (b'{"cat": 1, "dog": 2}', "has 2 labels, but none for the index 0"),
        (b'{"id2label": 5}', "has 5 for the index 0, but a label must be text"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b"caf\xe9\n", "is not UTF-8 text"),
        (bytes(2**24 + 1), "is larger than 16777216 bytes, so it is no file of labels"),
    ],
)
def test_what_holds_no_labels_is_refused(contents: bytes, message: str, path: Path) -> None:
    """One line names the file and the fault."""
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=f"labels: ({message})") as caught:
        read_labels(path)
    assert "\n" not in str(caught.value)
