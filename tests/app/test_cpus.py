"""How many CPUs the process may use."""

import os
from pathlib import Path

import pytest

from app.cpus import count_cpus

AVAILABLE = len(os.sched_getaffinity(0))


def group(root: Path, line: str, **files: str) -> None:
    """Writes the control group's line and its files, whose paths have `__` for a slash and `_dot_` for a dot."""
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/self/cgroup").write_text(line)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_without_a_quota_it_is_the_affinity(tmp_path: Path) -> None:
    """Neither a missing file nor a group without a quota is a limit."""
    assert count_cpus(tmp_path) == AVAILABLE
    group(tmp_path, "0::/\n", cpu_dot_max="max 100000\n")
    assert count_cpus(tmp_path) == AVAILABLE
    group(tmp_path, "1:cpu:/\n", cpu__cpu_dot_cfs_quota_us="-1\n", cpu__cpu_dot_cfs_period_us="100000\n")
    assert count_cpus(tmp_path) == AVAILABLE


@pytest.mark.parametrize(("quota", "cpus"), [("50000", 1), ("100000", 1), ("100001", 2)])
def test_a_quota_is_rounded_up(tmp_path: Path, quota: str, cpus: int) -> None:
    """Half a CPU is one thread, and a little more than one is two, in both versions of control groups."""
    group(tmp_path, "0::/\n", cpu_dot_max=f"{quota} 100000\n")
    assert count_cpus(tmp_path) == min(cpus, AVAILABLE)
    other = tmp_path / "other"
    files = {"cpu__cpu_dot_cfs_quota_us": quota, "cpu__cpu_dot_cfs_period_us": "100000"}
    group(other, "4:memory:/x\n2:cpu,cpuacct:/\n", **files)
    assert count_cpus(other) == min(cpus, AVAILABLE)


def test_the_quota_of_a_group_above_counts(tmp_path: Path) -> None:
    """The smallest quota on the way up is the limit. Inside a container the group's own folder may be missing."""
    group(tmp_path, "0::/a/b\n", a__b__cpu_dot_max="max 100000", a__cpu_dot_max="100000 100000", cpu_dot_max="max 1")
    assert count_cpus(tmp_path) == 1
    group(tmp_path, "0::/docker/0123\n", cpu_dot_max="70000 100000")
    assert count_cpus(tmp_path) == 1
