"""The current state of a container, from its record and from the kernel."""

from __future__ import annotations

import os
import time

from orlop.kernel.procstat import FORKED, has_ended, read_stat
from orlop.lifecycle.folder import is_locked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from orlop.lifecycle.folder import Folder
    from orlop.lifecycle.statefile import Record

CREATING, CREATED, RUNNING = "creating", "created", "running"
PAUSED, STOPPED = "paused", "stopped"


def now() -> str:
    """Return the time in Go's format: RFC 3339 with nanoseconds."""
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z"


def start_ticks(pid: int) -> int:
    """Return when process *pid* started; 0 if it is gone, or a zombie."""
    return _stat(pid)[0]


def is_alive(record: Record) -> bool:
    """Whether the first process exists, and its pid has not been reused."""
    pid = record["init_process_pid"]
    return pid > 0 and start_ticks(pid) == record["init_process_start"]


def _stat(pid: int) -> tuple[int, int]:
    """Return start time and flags of a process; 0, 0 if it has ended. proc_pid_stat(5)."""
    try:
        fields = read_stat(pid)
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0
    return (0, 0) if has_ended(fields) else (int(fields[19]), int(fields[6]))


def _waits(folder: Folder, record: Record) -> bool:
    """Whether the first process is at its gate; a killed `start` may have left the FIFO."""
    if not os.path.exists(folder.file("gate")):
        return False
    return bool(_stat(record["init_process_pid"])[1] & FORKED)


def status(folder: Folder, record: Record) -> str:
    """Return the container's status, in the specification's words. runtime.md, "State"."""
    if record["init_process_pid"] == 0:
        return CREATING if is_locked(folder) else STOPPED
    if not is_alive(record):
        return STOPPED
    if is_frozen(record):
        return PAUSED
    return CREATED if _waits(folder, record) else RUNNING


def is_frozen(record: Record) -> bool:
    """Whether the container's cgroup is frozen, or about to be."""
    for hierarchy, name, word in (("", "cgroup.freeze", b"1"), ("freezer", "freezer.state", b"F")):
        if (path := record["cgroup_paths"].get(hierarchy)) is not None:
            try:
                fd = os.open(f"{path}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                if os.read(fd, 16).startswith(word):
                    return True
            finally:
                os.close(fd)
    return False


def state(folder: Folder, record: Record) -> dict[str, Any]:
    """Return the container's state as `state` prints it."""
    current = status(folder, record)
    own = record["orlop"]
    answer: dict[str, Any] = {
        "ociVersion": own["oci_version"],
        "id": record["id"],
        "pid": 0 if current == STOPPED else record["init_process_pid"],
        "status": current,
        "bundle": own["bundle"],
        "rootfs": record["config"]["rootfs"],
        "created": record["created"],
    }
    if own["annotations"]:
        answer["annotations"] = own["annotations"]
    return answer | {"owner": ""}
