"""What starting costs: modules that are dear or dangerous to import are not imported early."""

from pathlib import Path

from tests.fakes.imports import loaded_by


def test_the_server_listens_before_torch_is_imported() -> None:
    """Torch takes seconds to import and probes must be answered meanwhile: the application does without it."""
    assert "torch" not in loaded_by("import app.main, app.server, app.settings, app.logs")


def test_decoding_imports_neither_torch_nor_a_web_framework() -> None:
    """A process that decodes images starts in a fraction of a second and stays small."""
    loaded = loaded_by("import app.decoding.images, app.errors, models.preprocess")
    assert "PIL.Image" in loaded
    assert loaded.isdisjoint({"torch", "pydantic", "starlette"})


def test_restoring_a_checkpoint_imports_no_compiler(checkpoint: Path) -> None:
    """torch._dynamo takes seconds, and a writable temporary folder that a read-only container lacks."""
    imports = "from pathlib import Path; from models.checkpoint import read_checkpoint, restore_model"
    loaded = loaded_by(f"{imports}; restore_model(read_checkpoint(Path({str(checkpoint)!r})))")
    assert "torch" in loaded
    assert "torch._dynamo" not in loaded
