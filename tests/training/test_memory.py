"""Memory: what is free by control group and machine, and what a run takes."""

from pathlib import Path

import pytest

from models.networks.registry import build_network
from training.errors import TrainingError
from training.memory import MIB, available_bytes, check_memory, training_bytes
from training.recipes import make_recipe


def write(folder: Path, **files: str | int) -> None:
    """Files of a kernel's file system; two underscores are a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A machine with 8,000 MiB free, where a process is in the group /job of version 2 and /box/job of version 1."""
    write(tmp_path / "proc", meminfo=f"MemTotal: 99999999 kB\nMemAvailable: {8000 * 1024} kB")
    write(tmp_path / "proc" / "self", cgroup="4:memory:/box/job\n1:cpu:/\n0::/job")
    return tmp_path / "proc"


def test_without_a_group_the_machine_decides(proc: Path, tmp_path: Path) -> None:
    """A group without a limit leaves what the machine has."""
    write(tmp_path / "cgroup" / "job", memory__max="max", memory__current=5 * MIB)
    assert available_bytes(proc, tmp_path / "cgroup") == 8000 * MIB


def test_a_group_of_version_2_and_those_above_it_count(proc: Path, tmp_path: Path) -> None:
    """The smallest room counts, and file caches count as free."""
    stat = f"anon 7\ninactive_file {30 * MIB}"
    write(tmp_path / "cgroup" / "job", memory__max=900 * MIB, memory__current=400 * MIB, memory__stat=stat)
    assert available_bytes(proc, tmp_path / "cgroup") == 530 * MIB
    write(tmp_path / "cgroup", memory__max=600 * MIB, memory__current=500 * MIB)
    assert available_bytes(proc, tmp_path / "cgroup") == 100 * MIB


def test_a_group_of_version_1_counts(proc: Path, tmp_path: Path) -> None:
    """Also where a container sees its own group as the root."""
    root = tmp_path / "cgroup" / "memory"
    write(root, memory__limit_in_bytes=300 * MIB, memory__usage_in_bytes=100 * MIB)
    assert available_bytes(proc, tmp_path / "cgroup") == 200 * MIB
    write(root / "box" / "job", memory__limit_in_bytes=2**63 - 4096, memory__usage_in_bytes=100 * MIB)
    assert available_bytes(proc, tmp_path / "cgroup") == 200 * MIB


def test_a_machine_without_procfs_has_its_memory(tmp_path: Path) -> None:
    """There all of the memory counts."""
    assert available_bytes(tmp_path / "none", tmp_path / "none") > 100 * MIB


def test_training_takes_weights_and_activations() -> None:
    """Four copies of the weights, and per image what autograd keeps, which grows with the side's square."""
    small, wide, large = (
        training_bytes(make_recipe("cifar10", {"precision": "float32", "width": 0.25, **settings}), 10)
        for settings in ({}, {"batch_size": 256}, {"size": 64})
    )
    model = build_network(make_recipe("cifar10", {"width": 0.25}).network(10))
    weights = 4 * sum(tensor.nbytes for tensor in model.state_dict().values())
    assert (wide - weights) == pytest.approx(2 * (small - weights), rel=0.01)
    assert (large - weights) == pytest.approx(4 * (small - weights), rel=0.1)


def test_too_much_is_one_line_that_says_what_to_do() -> None:
    """How much is needed, how much is there, and what needs less."""
    with pytest.raises(TrainingError, match=r"^9 images take 2 MiB of memory, but 1 MiB are free; use fewer$"):
        check_memory(2 * MIB, "9 images", "use fewer", MIB)
    check_memory(MIB, "9 images", "use fewer", MIB)
