"""The service's log lines."""

import json
import logging
import sys
from pathlib import Path

import pytest

from app.logs import FIELDS, JsonFormatter, TextFormatter
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
