"""Taking over the processes of a shim that was killed."""

import contextlib
import os
import socket
import traceback

from orlop.errors import OrlopError
from orlop.kernel import rights
from orlop.kernel.patience import is_readable
from orlop.kernel.process import pidfd_open
from orlop.kernel.procstat import FORKED, read_stat
from orlop.runtime import cgroups
from orlop.runtime.bundle import OUTLIVES
from orlop.runtime.noting import take_notes
from orlop.shim.process import UNKNOWN_STATUS, Process, reopen_pipes
from orlop.shim.records import Record, start_ticks

_SIGKILL = 9
_MOST_REPORT = 64 << 10

Held = dict[str, dict[str, int]]  # key -> descriptors by name, from a stdio process that lived on

__all__ = ["UNKNOWN_STATUS", "Held", "adopt"]


def adopt(key: str, record: Record, held: dict[str, int], *, may_be_unmade: bool) -> Process | None:
    """Return the process that *record* names, whether it runs or has ended.

    With pidfd -1 if it ended and no descriptor is left that could tell how. None
    for one that was only being made: what there is of it is killed. *may_be_unmade*
    says that nobody knew of it yet, so its program does not run.
    """
    process = Process(key, record)
    if process.is_init and record["cgroup"]:
        process.cgroup = cgroups.open(record["cgroup"])
    if record["pid"] == 0 or not _has_come_to_run(held):
        _undo(process, held)
        return None
    process.pidfd = held.pop("pidfd", -1)
    if process.pidfd < 0:
        process.pidfd = _open(record)
    if _is_unmade(process, known=not may_be_unmade):
        if process.pidfd >= 0:
            os.close(process.pidfd)
        _undo(process, held)
        return None
    process.fds = held
    if process.pidfd >= 0 and not held and not record["io"]["terminal"]:
        process.fds = reopen_pipes(record["pid"], record["inodes"])
    return process


def _has_come_to_run(held: dict[str, int]) -> bool:
    """Whether a process that was kept while it started runs its program, or has run it.

    Leaves in *held* what is held of every process.
    """
    if "witness" not in held:
        return True
    console = held.pop("console", -1)
    if console >= 0:
        with socket.socket(fileno=console) as connection, contextlib.suppress(BlockingIOError):
            connection.settimeout(0)
            if (master := rights.receive_descriptor(connection)) is not None:
                held["terminal"] = master
    witness, report = held.pop("witness"), held.pop("report")
    try:
        os.set_blocking(witness, False)
        if _count(witness) != OUTLIVES:
            return False
        with contextlib.suppress(BlockingIOError):  # its last steps before the program
            return not take_notes(os.read(report, _MOST_REPORT), until_ns=0)[1]
        return True
    finally:
        os.close(witness)
        os.close(report)


def _count(witness: int) -> int:
    """Return what a witness counts to; not by waiting, for its process may end meanwhile."""
    os.set_blocking(witness, False)
    try:
        return os.eventfd_read(witness)
    except BlockingIOError:
        return 0


def _is_unmade(process: Process, *, known: bool) -> bool:
    """Whether it has never come to its program, or goes on to its end now without a shim."""
    if process.pidfd < 0 or is_readable(process.pidfd, timeout_s=0):
        return not known
    if not process.record.get("witnessed"):
        return False
    try:
        return bool(int(read_stat(process.record["pid"])[6]) & FORKED)
    except OSError:
        return not known


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
