"""The service's log: one line a record, as text or as JSON, on standard error.

Owns the formats.
"""

import logging
import sys
from datetime import UTC, datetime

import orjson

FIELDS = "fields"  # a record's own data, passed as extra={FIELDS: {...}}


class TextFormatter(logging.Formatter):
    """`time LEVEL message key=value …`, tracebacks behind it."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {key}={value}" for key, value in getattr(record, FIELDS, {}).items())
        line = f"{_time(record)} {record.levelname} {record.getMessage()}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        document = {"time": _time(record), "level": record.levelname, "message": record.getMessage()}
        document |= getattr(record, FIELDS, {})
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(document, default=str).decode()


def configure_logging(log_format: str) -> None:
    """Sends every logger's lines to standard error in that format."""
    logging.logThreads = logging.logMultiprocessing = logging.logProcesses = False  # these formats do not show them
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)


def describe_error(error: Exception) -> str:
    """What went wrong: a ValueError's message is a sentence of ours, others need their class to be understood."""
    message = " ".join(str(error).split())
    return message if isinstance(error, ValueError) else f"{type(error).__name__}: {message}"


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
