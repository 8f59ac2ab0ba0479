"""The service's log: one line a record, as text or as JSON, on standard error.

Owns the formats. A line is one line whatever is in it: what a caller sends cannot begin a line of its own.
"""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import orjson

from app.stderr import BoundedStream, bounded_stderr

FIELDS = "fields"  # a record's own data, passed as extra={FIELDS: {...}}
BARE = re.compile(r"[^\s\"=]+")  # values that need no quotes
# Characters that JSON allows as they are and that terminals and viewers act on: control characters, ends of lines, and
# those that turn the direction of text.
ACTIVE = re.compile("[\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class TextFormatter(logging.Formatter):
    """`time LEVEL message key=value …`, with an indented traceback behind it."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {key}={_quote(value)}" for key, value in getattr(record, FIELDS, {}).items())
        line = f"{_time(record)} {record.levelname} {_escape(record.getMessage())}{fields}"
        if not record.exc_info:
            return line
        traceback = self.formatException(record.exc_info).split("\n")
        return "\n".join([line, *(f"  {_escape(other)}" for other in traceback)])


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        document: dict[str, Any] = {"time": _time(record), "level": record.levelname, "message": record.getMessage()}
        document |= getattr(record, FIELDS, {})
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        whole = {key: _replace_surrogates(value) for key, value in document.items()}
        return ACTIVE.sub(lambda match: f"\\u{ord(match[0]):04x}", orjson.dumps(whole, default=str).decode())


@contextmanager
def logging_to_stderr(log_format: str, on_drop: Callable[[int], None]) -> Iterator[BoundedStream]:
    """Sends every logger's lines, and Python's warnings, to standard error in that format, through a bounded stream.

    Nobody waits for what reads them. `on_drop` gets the number of lines that were dropped because of that.
    """
    logging.logThreads = logging.logMultiprocessing = logging.logProcesses = False  # these formats do not show them
    formatter = JsonFormatter() if log_format == "json" else TextFormatter()

    def describe_dropped(lines: int) -> str:
        message = f"{lines} log lines were dropped: they could not be written"
        return formatter.format(logging.LogRecord("vggserve.logs", logging.WARNING, "", 0, message, None, None))

    with bounded_stderr(on_drop, describe_dropped) as stream:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(formatter)
        root = logging.getLogger()
        handlers, level = root.handlers, root.level
        root.handlers = [handler]
        root.setLevel(logging.INFO)
        logging.captureWarnings(True)
        try:
            yield stream
        finally:
            logging.captureWarnings(False)
            root.handlers = handlers
            root.setLevel(level)


def describe_error(error: Exception) -> str:
    """What went wrong: a ValueError's message is a sentence of ours, others need their class to be understood."""
    message = " ".join(str(error).split())
    return message if isinstance(error, ValueError) else f"{type(error).__name__}: {message}"


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _quote(value: object) -> str:
    text = str(value)
    return _escape(text if BARE.fullmatch(text) else f'"{text.replace(chr(34), chr(92) + chr(34))}"')


def _escape(text: str) -> str:
    """Writes characters that are not printed, such as ends of lines and escape sequences, as Python does."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _replace_surrogates(value: object) -> object:
    """File names that are not UTF-8 hold lone surrogates, for which JSON has no form."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
