"""The shape of the code: imports point one way, and importing a module does nothing."""

import ast
from pathlib import Path

import pytest
from importlinter import api  # its import sets up what use_cases needs
from importlinter.application import use_cases

ROOT = Path(__file__).parents[1]
PACKAGES = ("app", "examples", "models", "training")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
DEFINITIONS = (
    ast.Import,
    ast.ImportFrom,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Assign,
    ast.AnnAssign,
)
NEVER_IMPORTED = ("__name__ == '__main__'", "TYPE_CHECKING")  # tests of `if`s that are false on import


def test_imports_point_one_way(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every contract in pyproject.toml holds: app and training build on models and never meet."""
    monkeypatch.syspath_prepend(str(ROOT))
    pyproject = str(ROOT / "pyproject.toml")
    assert len(api.read_configuration(pyproject)["contracts_options"]) >= 1
    assert use_cases.lint_imports(pyproject, cache_dir=None, no_logo=True), capsys.readouterr().out


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_importing_does_nothing(path: Path) -> None:
    """At its top level a module only imports, defines and names: no bare call, no loop, no `with`."""
    for node in ast.parse(path.read_text("utf-8")).body:
        documents = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_never_imported = isinstance(node, ast.If) and ast.unparse(node.test) in NEVER_IMPORTED
        assert isinstance(node, DEFINITIONS) or documents or is_never_imported, f"{path}:{node.lineno}"
