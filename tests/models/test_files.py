"""Files that are replaced whole: who may read them, and what killed writers leave."""

import os
from pathlib import Path

import pytest

from models.files import name_temporary, remove_temporaries, replace_atomically


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_umask_says_who_may_read(tmp_path: Path, umask: int, mode: int) -> None:
    """As for a file that any other program writes."""
    before = os.umask(umask)
    try:
        with replace_atomically(tmp_path / "a") as file:
            file.write(b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == mode


def test_what_killed_writers_left_is_deleted(tmp_path: Path) -> None:
    """And no other file, whatever its name begins with."""
    others = ["a.state", ".a.state.download", ".a.state.0000000g.part", ".b.state.00000000.part", ".a.state.part"]
    for name in others:
        (tmp_path / name).touch()
    name_temporary(tmp_path / "a.state").touch()
    remove_temporaries(tmp_path / "a.state")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)
    remove_temporaries(tmp_path / "none" / "a.state")
