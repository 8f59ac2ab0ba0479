"""API keys as text: which characters a key has, and how a variable and a file list several.

No error repeats a key, because errors end up in logs.
"""

import hashlib
import re
from pathlib import Path

KEY = re.compile(r"[\x21-\x7e]+")  # visible ASCII, which every header can carry
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
MAX_FILE_BYTES = 2**20
NOT_VISIBLE = "a character that is not visible ASCII (0x21 to 0x7e)"


def split_keys(text: str) -> tuple[str, ...]:
    """The keys of a list that commas separate. Raises ValueError for a bad key, and if there is none."""
    keys = tuple(part for part in (part.strip(" \t") for part in text.split(",")) if part)
    if not keys:
        raise ValueError("holds no key; leave it out to let all callers in")
    for number, key in enumerate(keys, 1):
        if not KEY.fullmatch(key):
            raise ValueError(f"has {NOT_VISIBLE} in key {number} of {len(keys)}")
    return keys


def read_keys(path: Path) -> tuple[str, ...]:
    """The keys of a file, one a line. Blank lines, lines that begin with `#` and a byte-order mark are passed over.

    Raises ValueError for a file that cannot be read, for a bad line, and if there is no key.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {(error.strerror or str(error)).lower()}") from error
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"has more than the allowed {MAX_FILE_BYTES} bytes")
    # bytes.splitlines ends a line at \n, \r and \r\n alone; that of str also ends it inside of some keys' characters.
    lines = enumerate(data.removeprefix(BYTE_ORDER_MARK).splitlines(), 1)
    keys = tuple(_read_line(line, number) for number, line in lines if line.strip() and not line.startswith(b"#"))
    if not keys:
        raise ValueError("holds no key")
    return keys


def hash_key(key: str) -> bytes:
    """The SHA-256 of a key: all have one length, so that comparing two takes the same time whatever they are."""
    return hashlib.sha256(key.encode()).digest()


def _read_line(line: bytes, number: int) -> str:
    key = line.strip(b" \t").decode("latin-1")
    if len(key.split()) > 1:
        raise ValueError(f"has several words in line {number}, but a line holds one key")
    if not KEY.fullmatch(key):
        raise ValueError(f"has {NOT_VISIBLE} in line {number}")
    return key
