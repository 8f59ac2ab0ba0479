"""The documents name files that exist, and the lock files pin what pyproject.toml asks for."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest

from app.http.connections import ADDRESS_SHARE, MAX_CONNECTIONS, RESERVED_FILES
from app.http.protocol import BoundedProtocol
from app.http.transport import BoundedTransport
from app.settings import Settings

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path for pattern in ("*.md", "docs/*.md", "deploy/*.md", "benchmarks/results/*.md") for path in ROOT.glob(pattern)
)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
CODE_PATH = re.compile(r"`((?:app|benchmarks|deploy|docs|examples|models|tests|training)/[\w./-]*)`")
PIN = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)
HASHED_PIN = re.compile(r"^[a-z0-9-]+==\S+[^\n]* \\\n    --hash=sha256:", re.MULTILINE)
TEST_NAME = re.compile(r"`(tests/[\w./]+\.py)::(test_\w+)`")
LONGEST_README = 120


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(path: Path) -> None:
    """Every relative link has its file or folder."""
    for link in LINK.findall(path.read_text("utf-8")):
        assert (path.parent / link).exists(), link


def test_every_promise_has_its_test() -> None:
    """docs/security.md names at least one test for each promise, and every named test exists."""
    text = (ROOT / "docs/security.md").read_text("utf-8")
    promises = text.partition("## What is promised")[2].partition("\n## ")[0]
    rows = [line for line in promises.splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 20
    for row in rows:
        named = TEST_NAME.findall(row)
        assert named, row
        for path, name in named:
            assert re.search(rf"^(?:async )?def {name}\(", (ROOT / path).read_text("utf-8"), re.MULTILINE), name


def test_the_limits_are_the_real_ones() -> None:
    """docs/security.md gives the bounds of the code, and the defaults of the settings."""
    text = (ROOT / "docs/security.md").read_text("utf-8").partition("## Limits")[2].partition("\n## ")[0]
    found = {cells[1].strip(): cells[2].strip() for line in text.splitlines() if len(cells := line.split("|")) > 3}
    protocol, transport, defaults = BoundedProtocol, BoundedTransport, Settings.model_fields
    for name, right in {
        "head, trailers, framing of chunks": f"{protocol.max_head_bytes // 1024} KiB",
        "time for a head": f"{protocol.head_seconds:g} s",
        "requests that wait on a connection": f"{protocol.max_waiting}",
        "connections": f"{MAX_CONNECTIONS:,}, or the limit of open files minus {RESERVED_FILES}",
        "an answer that waits to be sent": f"{transport.min_write_bytes // 1024} KiB each {transport.write_seconds:g} s",  # noqa: E501
        "bytes and time after a refusal": f"{transport.linger_bytes // 2**20} MiB, {transport.linger_seconds:g} s",
        "rest of a body after its answer": f"{protocol.max_unread_bytes // 2**20} MiB, {protocol.head_seconds:g} s",
        "time for a request, its body included": f"{defaults['request_timeout'].default:g} s",
        "body": f"{defaults['max_body_bytes'].default // 2**20} MiB",
        "pixels of an image": f"{defaults['max_image_pixels'].default:,}",
        "images that are decoded or wait": f"{defaults['queue_size'].default}",
        "time for what is in flight at the end": f"{defaults['shutdown_timeout'].default:g} s",
    }.items():
        assert found[name] == right
    assert ADDRESS_SHARE == 0.75


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_named_paths_exist(name: str) -> None:
    """A file or folder that a document names by its path from the root is there."""
    for path in CODE_PATH.findall((ROOT / name).read_text("utf-8")):
        assert (ROOT / path).exists(), path


def test_the_readme_is_short() -> None:
    """It has at most 120 lines. Details are in docs/."""
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= LONGEST_README


@pytest.mark.parametrize("name", ["requirements.lock", "deploy/server.lock"])
def test_every_pin_has_a_hash(name: str) -> None:
    """Both lock files are installed with --require-hashes."""
    text = (ROOT / name).read_text("utf-8")
    assert len(PIN.findall(text)) == len(HASHED_PIN.findall(text)) > 0


def test_the_servers_lock_file_is_part_of_the_other() -> None:
    """The image runs the versions that the tests ran."""
    pins = [set(PIN.findall((ROOT / name).read_text("utf-8"))) for name in ("deploy/server.lock", "requirements.lock")]
    assert pins[0] < pins[1]


def test_every_dependency_is_locked() -> None:
    """A dependency that is added to pyproject.toml needs `make lock`."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    groups = (*pyproject["project"]["optional-dependencies"].values(), *pyproject["dependency-groups"].values())
    everything = {pin[0] for pin in PIN.findall((ROOT / "requirements.lock").read_text("utf-8"))}
    server = {pin[0] for pin in PIN.findall((ROOT / "deploy/server.lock").read_text("utf-8"))}
    for wanted, locked in ((pyproject["project"]["dependencies"], server), ([*chain(*groups)], everything)):
        assert {re.split(r"[>;]", requirement)[0] for requirement in wanted} <= locked
