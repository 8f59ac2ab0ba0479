"""Labels: Unicode text in one form, of which no two look alike."""

import unicodedata
from collections.abc import Iterable

from training.data.items import DataError

VARIATION_SELECTORS = range(0xFE00, 0xFE10)


def normalise_label(name: str) -> str:
    """The name in Unicode's form NFC: macOS and Linux write an accent in two ways."""
    return unicodedata.normalize("NFC", name)


def check_labels(labels: Iterable[str], where: object) -> None:
    """Raises DataError, which names `where` they stand, for labels that cannot be told apart or shown."""
    seen: dict[str, str] = {}
    for label in labels:
        _check_text(label, where)
        key = _appearance(label)
        if not key:
            raise DataError(f"{where} has the label {label!a}, in which there is nothing to see")
        if key in seen:
            raise DataError(
                f"{where} has the labels {seen[key]!a} and {label!a}, which look alike; give them one name"
                " if they are one class, and names that differ if they are two"
            )
        seen[key] = label


def check_count(labels: tuple[str, ...]) -> None:
    """Raises DataError where there are fewer than two labels."""
    if len(labels) < 2:
        only = f"{labels[0]} is the only class" if labels else "there is no class"
        raise DataError(f"{only}, but a classifier needs at least two")


def _check_text(label: str, where: object) -> None:
    try:
        label.encode()
    except UnicodeEncodeError as error:  # bytes of a file's name that are not UTF-8 are lone surrogates here
        raise DataError(f"{where} has the label {label!r}, which is not UTF-8, but must be Unicode text") from error
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in label):
        raise DataError(f"{where} has the label {label!a}, but must have no control characters")


def _appearance(label: str) -> str:
    """The same text for labels that differ in case, in width, in composition, in spaces or in invisible characters."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).casefold())
    visible = (c for c in folded if unicodedata.category(c) != "Cf" and ord(c) not in VARIATION_SELECTORS)
    return " ".join("".join(visible).split())
