"""What starting costs: modules that are dear or dangerous to import are not imported early."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def loaded_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after `statement`."""
    program = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)  # noqa: S603
    return set(done.stdout.split())


def test_the_server_listens_before_torch_is_imported() -> None:
    """Torch takes seconds to import and probes must be answered meanwhile: the application does without it."""
    assert "torch" not in loaded_by("import app.main, app.server, app.settings, app.logs")


def test_restoring_a_checkpoint_imports_no_compiler(checkpoint: Path) -> None:
    """torch._dynamo takes seconds, and a writable temporary folder that a read-only container lacks."""
    imports = "from pathlib import Path; from models.checkpoint import read, restore"
    loaded = loaded_by(f"{imports}; restore(read(Path({str(checkpoint)!r})))")
    assert "torch" in loaded
    assert "torch._dynamo" not in loaded
