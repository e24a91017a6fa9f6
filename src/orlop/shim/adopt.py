"""Taking over the processes of a shim that was killed."""

import os
import select
import traceback

from orlop.errors import OrlopError
from orlop.kernel.process import pidfd_open
from orlop.runtime import cgroups
from orlop.shim.process import UNKNOWN_STATUS, Process, reopen_pipes
from orlop.shim.records import Record, start_ticks

_SIGKILL = 9

Held = dict[str, dict[str, int]]  # key -> descriptors by name, from a stdio process that lived on

__all__ = ["UNKNOWN_STATUS", "Held", "adopt"]


def adopt(key: str, record: Record, held: dict[str, int], *, may_be_unmade: bool) -> Process | None:
    """Return the process that *record* names, whether it runs or has ended.

    With pidfd -1 if it ended and no descriptor is left that could tell how. None
    for one that was only being made: what there is of it is killed. *may_be_unmade*
    says that nobody pumped for it yet: it dies with its shim unless it is past that.
    """
    process = Process(key, record)
    if process.is_init and record["cgroup"]:
        process.cgroup = cgroups.open(record["cgroup"])
    if record["pid"] == 0:
        _undo(process, held)
        return None
    process.pidfd = held.pop("pidfd", -1)
    if process.pidfd < 0:
        process.pidfd = _open(record)
    if may_be_unmade and (process.pidfd < 0 or _has_ended(process.pidfd)):
        if process.pidfd >= 0:
            os.close(process.pidfd)
        _undo(process, held)
        return None
    process.fds = held
    if process.pidfd >= 0 and not held and not record["io"]["terminal"]:
        process.fds = reopen_pipes(record["pid"], record["inodes"])
    return process


def _open(record: Record) -> int:
    """Open the process by its pid, unless the pid is another's by now."""
    try:
        pidfd = pidfd_open(record["pid"])
    except ProcessLookupError:
        return -1
    if start_ticks(record["pid"]) != record["start_ticks"]:
        os.close(pidfd)
        return -1
    return pidfd


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _undo(process: Process, held: dict[str, int]) -> None:
    for fd in held.values():
        os.close(fd)
    if process.cgroup is None:
        return
    try:
        process.cgroup.kill(_SIGKILL)
        process.cgroup.remove()
    except (OSError, OrlopError):
        traceback.print_exc()  # the engine's clean-up meets it again
