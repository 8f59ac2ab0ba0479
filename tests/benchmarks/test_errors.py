"""A benchmark that cannot run says why in one line."""

import importlib
import sys
from pathlib import Path

import pytest

from benchmarks.lib.errors import exit_on_error

NOBODY = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("attack", (NOBODY,)),
        ("draft", ("none",)),
        ("faults", ("none.safetensors", "none")),
        ("fusing", ("none.safetensors",)),
        ("load", (NOBODY, "images")),
        ("load", (NOBODY, "none")),
        ("precision", ("none.safetensors",)),
        ("request", ("none.safetensors", "none")),
        ("start", ("none.safetensors",)),
        ("typicality", ("none.safetensors", "digits")),
    ],
)
def test_a_benchmark_without_what_it_needs_is_one_line(
    command: str, arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing checkpoint, folder or server ends it with status 1 and a line that names it."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"a")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [command, *arguments])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"benchmarks.{command}").main()
    line = str(ended.value.code)
    assert line.startswith("error: ")
    assert "\n" not in line
    assert "none" in line or NOBODY in line


@pytest.mark.parametrize("command", ["attack", "draft", "faults", "fusing", "load", "precision", "request", "start"])
def test_every_benchmark_explains_itself(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [command, "--help"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"benchmarks.{command}").main()
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (FileNotFoundError(2, "No such file or directory", "a"), "error: a: no such file or directory"),
        (RuntimeError("log\nerror: port is taken\n"), "error: port is taken"),
        (ZeroDivisionError("division by zero"), "error: division by zero"),
        (ValueError(), "error: ValueError"),
    ],
)
def test_errors_become_their_last_line(error: Exception, line: str) -> None:
    with pytest.raises(SystemExit) as ended, exit_on_error():
        raise error
    assert ended.value.code == line
