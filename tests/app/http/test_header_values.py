"""Headers with parameters, and how browsers and tools write a file's name in them."""

import re
import time
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http.header_values import file_name, parse_header


def name_in(disposition: str | bytes) -> str | None:
    value = disposition.encode() if isinstance(disposition, str) else disposition
    return file_name(parse_header(value)[1])


@pytest.mark.parametrize(
    ("value", "main", "parameters"),
    [
        (b"", b"", {}),
        (b" Text/Plain ", b"text/plain", {}),
        (b"multipart/form-data;boundary=a", b"multipart/form-data", {b"boundary": b"a"}),
        (b'a/b; Boundary = "x y;z" ; q=1 ', b"a/b", {b"boundary": b"x y;z", b"q": b"1"}),
        (b'a/b; x="1"; x=2', b"a/b", {b"x": b"1"}),
        (rb'a/b; x="q\"\\\z"', b"a/b", {b"x": rb'q"\\z'}),
        (b'a/b; x="never closed; y=1', b"a/b", {b"x": b"never closed; y=1"}),
        (b"a/b;;; ;x;=;y=", b"a/b", {b"y": b""}),
    ],
)
def test_a_header_has_parameters(value: bytes, main: bytes, parameters: dict[bytes, bytes]) -> None:
    """The value and the parameters' names are in lower case; quotes and the blanks around a value do not count."""
    assert parse_header(value) == (main, parameters)


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ("form-data; name=a", None),
        ("", None),
        ('form-data; name="a"; filename=""', ""),
        ('form-data; filename="a b.png"; name="a"', "a b.png"),
        ("form-data; filename=a.png", "a.png"),
        ('form-data; filename="ü.png"', "ü.png"),
        ('form-data; filename="ü.png"'.encode("latin-1"), "ü.png"),
        (r'form-data; filename="a\"b.png"', 'a"b.png'),
        ('form-data; filename="a%22b%0D%0A100%25.png"', 'a"b\r\n100%25.png'),
        ("form-data; filename*=utf-8''%C3%BC%20b.png", "ü b.png"),
        ("form-data; filename*=UTF-8'de'%c3%bc.png", "ü.png"),
        ("form-data; filename*=\"utf-8''%C3%BC.png\"", "ü.png"),
        ("form-data; filename*=iso-8859-1''%FC.png", "ü.png"),
        ("form-data; filename=\"u.png\"; filename*=utf-8''%C3%BC.png", "ü.png"),
        ("form-data; filename*=utf-8''%C3%BC.png; filename=\"u.png\"", "ü.png"),
        ("form-data; filename=\"u.png\"; filename*=utf-8''%FC.png", "u.png"),
        ("form-data; filename=\"u.png\"; filename*=koi8-r''%C3.png", "u.png"),
        ("form-data; filename*=u.png", "u.png"),
        ("form-data; filename*0*=utf-8''%C3%BC; filename*1*=%20b.png", "ü b.png"),
        (r'form-data; filename="C:\pictures\a.png"', "a.png"),
        (r'form-data; filename="C:\\pictures\\a.png"', "a.png"),
        (r'form-data; filename="\\host\share\a.png"', "a.png"),
        (r'form-data; filename="a\b.png"', r"a\b.png"),
        ('form-data; filename="folder/a.png"', "folder/a.png"),
        ('form-data; filename="a;b=c.png"', "a;b=c.png"),
    ],
)
def test_a_file_has_the_name_that_was_sent(disposition: str | bytes, name: str | None) -> None:
    """Every way in which browsers and tools write a file's name is read."""
    assert name_in(disposition) == name


@given(name=st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=60))
def test_names_of_pythons_mail_package_are_read(name: str) -> None:
    """Python's own writer of headers, an independent one, is understood, also where it folds and numbers."""
    message = EmailMessage()
    message.add_header("Content-Disposition", "form-data", filename=name)
    _, _, value = message.as_string().partition(":")
    value = re.sub(r"\n[ \t]", " ", value.partition("\n\n")[0])
    if "=?" in value:  # an encoded word of RFC 2047, which no form has
        return
    expected = name.rpartition("\\")[2] if name[1:3] == ":\\" or name.startswith("\\") else name
    assert name_in(value) == expected


@given(
    value=st.lists(st.sampled_from([b";", b"=", b'"', b"\\", b" ", b"a", b"*", b"filename", b"'", b"%"])).map(b"".join)
)
def test_any_value_is_read(value: bytes) -> None:
    """No value makes the parser fail."""
    main, parameters = parse_header(value)
    assert b";" not in main
    file_name(parameters)


@pytest.mark.parametrize("piece", [b';a="', b";a", b"; ", b";=", b'\\"', b"%22", b"a" * 8 + b" " * 8])
def test_reading_takes_time_in_proportion(piece: bytes) -> None:
    """A header of 64 KiB that repeats one piece is read in a fraction of a second."""
    started = time.process_time()
    file_name(parse_header(b'a/b; filename="' + piece * (65_536 // len(piece)))[1])
    file_name(parse_header(piece * (65_536 // len(piece)))[1])
    assert time.process_time() - started < 0.5
