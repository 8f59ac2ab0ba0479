"""The service's log lines."""

import io
import json
import logging
import sys
import warnings
from pathlib import Path

import pytest

from app.logs import FIELDS, JsonFormatter, TextFormatter, logging_to_stderr
from tests.fakes.images import encoded, random_image
from tests.fakes.service import serving


def record(message: str, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("vggserve", logging.INFO, __file__, 1, message, None, None)
    setattr(made, FIELDS, fields)
    return made


def test_text_is_one_line_of_keys_and_values() -> None:
    """Text lines have time, level, message and the record's fields."""
    line = TextFormatter().format(record("request", id="a-1", status=200))
    assert line.endswith(" INFO request id=a-1 status=200")
    assert "\n" not in line


def test_json_is_one_object_a_line() -> None:
    """JSON lines have the same as one object."""
    document = json.loads(JsonFormatter().format(record("a\nb", id="a-1", path=Path("x"))))
    assert (document["message"], document["level"], document["id"], document["path"]) == ("a\nb", "INFO", "a-1", "x")


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_a_traceback_goes_with_its_line(formatter: logging.Formatter) -> None:
    """What went wrong stands where it was logged."""
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        made = record("unforeseen error")
        made.exc_info = sys.exc_info()
    assert "RuntimeError: broken" in formatter.format(made)


FORGED = "a\n2026-01-01T00:00:00 INFO forged \x1b[31m\x9b \u202e\udce9"


def test_nothing_in_a_text_line_can_begin_another() -> None:
    """Ends of lines, escape sequences and characters that turn the text are written out, in messages and fields."""
    line = TextFormatter().format(record(FORGED, path=FORGED, empty=""))
    assert line.isprintable()
    assert line.count("\\n2026") == 2
    assert 'path="a\\n' in line
    assert line.endswith(' empty=""')


def test_a_value_cannot_add_a_field() -> None:
    """A value with blanks, quotes or equals signs stands in quotes."""
    assert TextFormatter().format(record("m", path='x" status=200')).endswith(r' path="x\" status=200"')


def test_the_lines_of_a_traceback_are_indented() -> None:
    """An error's message cannot look like a line of the log."""
    try:
        raise RuntimeError(FORGED)
    except RuntimeError:
        made = record("unforeseen error")
        made.exc_info = sys.exc_info()
    first, *others = TextFormatter().format(made).split("\n")
    assert first.endswith("unforeseen error")
    assert all(line.startswith("  ") and line.isprintable() for line in others)


def test_json_keeps_the_text_and_shows_nothing_active() -> None:
    """A line stays one printable line, and whoever parses it gets the text back."""
    line = JsonFormatter().format(record(FORGED, path=FORGED))
    assert line.isprintable()
    text = FORGED.replace("\udce9", "\\udce9")
    assert (json.loads(line)["message"], json.loads(line)["path"]) == (text, text)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_lines_and_warnings_go_to_stderr(log_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the block every logger's lines, and Python's warnings, are lines of the log."""
    file = io.StringIO()
    monkeypatch.setattr("sys.stderr", file)
    before = list(logging.getLogger().handlers)
    with logging_to_stderr(log_format, lambda _: None), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.getLogger("vggserve").info("a line")
        warnings.warn("a warning", stacklevel=1)
    line, warning = file.getvalue().splitlines()
    assert "a line" in line
    assert "UserWarning: a warning" in warning
    assert (line[0] == "{") is (log_format == "json")
    assert logging.getLogger().handlers == before


@pytest.mark.anyio
async def test_a_request_is_one_line(checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each request is logged with id, route, status, bytes, images and times; probes are not; keys never are."""
    caplog.set_level(logging.INFO)
    body = encoded(random_image())
    async with serving(checkpoint, api_keys="hunter2") as client:
        headers = {"X-Request-ID": "abc", "Authorization": "Bearer hunter2"}
        await client.post("/predict?top_k=1", content=body, headers=headers)
        await client.get("/health/ready")
    [line] = [made for made in caplog.records if made.name == "vggserve.request"]
    fields = getattr(line, FIELDS)
    assert (fields["id"], fields["method"], fields["route"], fields["status"]) == ("abc", "POST", "/predict", 200)
    assert (fields["bytes"], fields["images"]) == (len(body), 1)
    assert all(fields[name] >= 0 for name in ("decode", "queue", "model", "total"))
    assert "hunter2" not in caplog.text + str(fields)
