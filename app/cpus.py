"""How many CPUs the process may use: by its affinity and by the quota of its control group."""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def count_cpus(root: Path = Path("/")) -> int:
    """Returns the CPUs of the process's affinity, or its control group's CPU quota, rounded up, if that is smaller.

    `root` is where `proc` and `sys` are. A quota is read from `cpu.max` (cgroup v2) or `cpu.cfs_quota_us` (v1), of the
    group and of every group above it (kernel documentation, cgroup-v2.rst, "Controllers: CPU", and sched-bwc.rst).
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([available, *map(math.ceil, _read_quotas(root))]))


def _read_quotas(root: Path) -> Iterator[float]:
    """Yields the quota, in CPUs, of each group that the process is in and that has one."""
    mounts = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for folder in _with_parents(group):
            if controllers:
                quota, period = (_read(mounts / "cpu" / folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
            else:
                quota, _, period = _read(mounts / folder / "cpu.max").partition(" ")
            if quota.strip().isdecimal() and period.strip().isdecimal():  # v2 has "max" and v1 has -1 without a quota
                yield int(quota) / int(period)


def _with_parents(group: str) -> list[PurePosixPath]:
    """The group's folder and those above it, up to the one where the file system of groups is mounted."""
    folder = PurePosixPath(group.lstrip("/"))
    return [folder, *folder.parents]


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
