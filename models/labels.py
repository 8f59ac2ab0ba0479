"""Files of class names: text with one name a line, or JSON as model hubs have it.

Owns the forms that are read.
"""

import codecs
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
MAX_BYTES = 2**24
JSON = re.compile(r'\s*(\{|\[\s*["\[\]])')  # a name in a text may begin with a bracket too


def read_labels(path: Path) -> tuple[str, ...]:
    """The names in index order.

    JSON may be a list, an object of names by index, an object of indices by name, a model's config with `id2label`,
    `label_names` or `label2id`, or ImageNet's class index with two names for each index. Raises OSError, or
    ValueError that names the file and the fault.
    """
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"{path}: is larger than {MAX_BYTES} bytes, so it is no file of labels")
    try:
        text = data.decode(next((encoding for mark, encoding in MARKS if data.startswith(mark)), "utf-8"))
        labels = _parse_json(text) if JSON.match(text) else _parse_lines(text)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not UTF-8 text") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not labels:
        raise ValueError(f"{path}: has no labels")
    return labels


def _parse_lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.rstrip().split("\n")) if text.strip() else ()


def _parse_json(text: str) -> tuple[str, ...]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON ({error})") from error
    if isinstance(document, dict):
        document = next(
            (document[key] for key in ("id2label", "label_names", "label2id") if document.get(key)), document
        )
    return _name(
        _order(document) if isinstance(document, dict) else document if isinstance(document, list) else [document]
    )


def _order(document: dict[str, Any]) -> list[Any]:
    """The values by index, 0, 1, 2, …; or the keys, where the values are the indices."""
    if document and all(type(value) is int for value in document.values()):
        document = {str(value): key for key, value in document.items()}
    if wrong := [str(i) for i in range(len(document)) if str(i) not in document]:
        raise ValueError(f"has {len(document)} labels, but none for the index {wrong[0]}")
    return [document[str(i)] for i in range(len(document))]


def _name(values: list[Any]) -> tuple[str, ...]:
    """Of two names, the readable one comes second; the first tells equal ones apart."""
    pairs = [value if isinstance(value, list) and len(value) == 2 else [None, value] for value in values]
    if wrong := [i for i, (_, name) in enumerate(pairs) if not isinstance(name, str)]:
        raise ValueError(f"has {pairs[wrong[0]][1]!a} for the index {wrong[0]}, but a label must be text")
    counts = Counter(name for _, name in pairs)
    return tuple(f"{name} ({first})" if first and counts[name] > 1 else name for first, name in pairs)
