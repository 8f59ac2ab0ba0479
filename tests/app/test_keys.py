"""API keys in a list and in a file."""

from pathlib import Path

import pytest

from app.keys import MAX_FILE_BYTES, read_keys, split_keys


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "keys"
    path.write_bytes(data)
    return path


def test_a_list_is_separated_by_commas() -> None:
    """Blanks around the commas, and empty places, do not count."""
    assert split_keys(" old ,new,, ") == ("old", "new")


@pytest.mark.parametrize("text", ["", ",", " , "])
def test_a_list_without_a_key_is_an_error(text: str) -> None:
    """Otherwise a template without a value would open the server to everyone."""
    with pytest.raises(ValueError, match="no key"):
        split_keys(text)


@pytest.mark.parametrize("key", ["two words", "h\xfcnter2", "tab\tbed", "line\nbreak", "nul\0", "del\x7f"])
def test_a_key_is_visible_ascii(key: str) -> None:
    """Anything else is an error with the key's place, without the key."""
    with pytest.raises(ValueError, match="key 2 of 2") as error:
        split_keys(f"fine,{key}")
    assert key not in str(error.value)


@pytest.mark.parametrize(
    "data", [b"first\nsecond\n", b"\xef\xbb\xbffirst\r\nsecond\r\n", b"# all of them\n\n first \n#no\n  \nsecond"]
)
def test_a_file_has_one_key_a_line(tmp_path: Path, data: bytes) -> None:
    """A byte-order mark, blank lines, comments and the ends of lines of other systems are passed over."""
    assert read_keys(written(tmp_path, data)) == ("first", "second")


@pytest.mark.parametrize("data", [b"first\nhunter 2\n", b"first\nh\xc3\xbcnter\n", b"first\nhunt\x0ber\n", b"#\nhun\0"])
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, data: bytes) -> None:
    """Neither several words nor other characters make a key, and the error does not show the line."""
    with pytest.raises(ValueError, match="in line 2") as error:
        read_keys(written(tmp_path, data))
    assert "hun" not in str(error.value)


@pytest.mark.parametrize("data", [b"", b"\n\n", b"# none\n", b"\xef\xbb\xbf"])
def test_a_file_without_a_key_is_an_error(tmp_path: Path, data: bytes) -> None:
    """An empty file must not open the server."""
    with pytest.raises(ValueError, match="no key"):
        read_keys(written(tmp_path, data))


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """A folder, a missing file and an endless one are told in one line."""
    for path, words in ((tmp_path, "is a directory"), (tmp_path / "no", "no such file"), (Path("/dev/zero"), "more")):
        with pytest.raises(ValueError, match=words):
            read_keys(path)
    assert read_keys(written(tmp_path, b"k" * MAX_FILE_BYTES)) == ("k" * MAX_FILE_BYTES,)
