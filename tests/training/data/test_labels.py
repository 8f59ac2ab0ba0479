"""Labels: one form of Unicode, and no two that look alike."""

import os

import pytest

from training.data.items import DataError
from training.data.labels import check_count, check_labels, normalise_label


def test_an_accent_is_written_in_one_way() -> None:
    """macOS stores a letter and its accent apart, and Linux together: the label is the same."""
    assert normalise_label("cafe\u0301") == "caf\u00e9"


@pytest.mark.parametrize(
    "twins",
    [
        ("Cat", "cat"),
        ("cafe\u0301", "caf\u00e9"),
        ("cat", "cat\u200b"),
        ("c\u00adat", "cat"),
        ("cat", "\uff43at"),
        ("hot dog", "hot  dog"),
        ("\u2764", "\u2764\ufe0f"),
        ("stra\u00dfe", "STRASSE"),
    ],
)
def test_labels_that_look_alike_are_refused(twins: tuple[str, str]) -> None:
    """Case, composition, width, spaces and invisible characters make no second label. Both are named."""
    with pytest.raises(DataError, match="which look alike") as raised:
        check_labels(("dog", *twins), "pets")
    assert all(ascii(twin) in str(raised.value) for twin in twins)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (os.fsdecode(b"caf\xe9"), r"pets has the label 'caf\\udce9', which is not UTF-8"),
        ("cat\n", r"pets has the label 'cat\\n', but must have no control characters"),
        ("\u200b", r"pets has the label '\\u200b', in which there is nothing to see"),
    ],
)
def test_labels_that_cannot_be_shown_are_refused(label: str, message: str) -> None:
    """A label is Unicode text on one line."""
    with pytest.raises(DataError, match=message):
        check_labels(("dog", label), "pets")


def test_labels_of_any_script_are_labels() -> None:
    """Letters that need a joiner, emoji and numbers are labels like any other."""
    check_labels(("\u732b", "\u06a9\u200c\u0628", "10", "2", "\U0001f431"), "pets")


def test_one_label_is_too_few() -> None:
    """A classifier chooses among at least two."""
    with pytest.raises(DataError, match="cat is the only class, but a classifier needs at least two"):
        check_count(("cat",))
