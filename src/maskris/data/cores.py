"""How many CPU cores this process may keep busy."""

import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Cores that the operating system and the container grant this process, at least one."""
    granted = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:  # a container with `--cpus 4` still sees all 64 cores of its machine
        quota, period = map(int, _QUOTA.read_text(encoding="ascii").split())
    except (OSError, ValueError):  # no such file, or "max"
        return granted
    return max(1, min(granted, quota // period))


def usable_workers(wanted: int) -> int:
    """The number of worker processes to start: as wanted, but never more than this process's share of the cores.

    The training processes of one machine, of which torchrun and accelerate tell the number in ``LOCAL_WORLD_SIZE``,
    share its cores.
    """
    processes = max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return max(0, min(wanted, usable_cores() // processes))
