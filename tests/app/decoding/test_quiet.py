"""A process that decodes prints nothing, however broken the files are."""

import subprocess
import sys

from tests.fakes.imports import ROOT

PROGRAM = """
import sys, warnings
from contextlib import suppress
from app.decoding.images import decode
from app.decoding.quiet import count_warnings
from app.errors import UndecodableImage
from models.preprocess import Preprocessing
from tests.fakes.tiffs import write_tiff
if sys.argv[1] == "quiet":
    seen = []
    count_warnings(lambda: seen.append(1))
for _ in range(3):
    warnings.warn("of a decoder")
fields = {256: (4, [40]), 257: (4, [50]), 258: (3, [1]), 259: (3, [4]), 262: (3, [0]), 273: (4, [8]), 279: (4, [200])}
fax = write_tiff(fields, b"U" * 200)
with suppress(UndecodableImage):
    decode(fax, Preprocessing(32, 32, (0.5,), (0.5,), 1), 10**6)
if sys.argv[1] == "quiet":
    print(len(seen))
"""


def run(mode: str) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-c", PROGRAM, mode]
    return subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=ROOT)  # noqa: S603


def test_warnings_are_counted_and_messages_dropped() -> None:
    """Python's warnings call the counter, and libtiff's messages, which a broken fax has for each line, are gone."""
    assert "Fax4Decode" in run("loud").stderr
    quiet = run("quiet")
    assert (quiet.stdout, quiet.stderr) == ("3\n", "")
