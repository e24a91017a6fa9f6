"""What a process that has ended, and all that it has started, have used."""

from orlop.kernel.process import exit_usage
from orlop.runtime.cgroups import group
from orlop.runtime.cgroups.reusable import Group
from orlop.shim.process import Process


def usage(process: Process) -> list[int]:
    """Return microseconds of CPU time as user and in the kernel; bytes of memory, read, written.

    CPU time is its group's, where that can be told. The rest is what getrusage(2) counts
    of it and of those that were waited for. All 0 of one whose parent was a shim before us.
    A sandbox's is its cgroup's.
    """
    if process.is_init and process.spawn is not None:
        return usage_of_group(process.spawn.group)
    try:
        own = exit_usage(process.pidfd)
    except OSError:
        return [0, 0, 0, 0, 0]
    times = group.times_us(process.cgroup) if process.cgroup is not None else None
    user_us, system_us = times or (own.user_us, own.system_us)
    return [user_us, system_us, own.peak_bytes, own.read_bytes, own.written_bytes]


def periods(used: Group | None) -> int:
    """Return how many periods of its quota of CPU time a sandbox has begun."""
    return used.usage().periods if used is not None else 0


def usage_of_group(used: Group | None) -> list[int]:
    """Return that of a sandbox in the same order; with v1 cgroups its I/O is not counted."""
    if used is None:
        return [0, 0, 0, 0, 0]
    found = used.usage()
    times_us = (found.user_ns // 1000, found.system_ns // 1000)
    return [*times_us, found.peak_bytes or 0, found.read_bytes, found.written_bytes]
