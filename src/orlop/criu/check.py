"""Compare the processes that CRIU has restored with the bundle, before any of them runs.

An image says by itself in which namespaces its processes are and what they may
do. Made by somebody else, it could ask for the host's.
"""

from __future__ import annotations

import os

from orlop.errors import InvalidArgumentError
from orlop.kernel.namespaces import FILES
from orlop.kernel.procstat import has_ended, read_stat
from orlop.model.light import TYPE_CHECKING, Iterator, Mapping, NamedTuple
from orlop.runtime.joining import maps_of

if TYPE_CHECKING:
    from orlop.runtime.plan import Namespaces, ProcessPlan

_CAP_SYS_ADMIN = 21
_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


class NotOfBundleError(InvalidArgumentError):
    """The restored processes have more than the bundle allows."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the checkpoint is not of this bundle: {why}")


class Bounds(NamedTuple):
    """The limits that the bundle sets for its processes."""

    namespaces: Namespaces
    process: ProcessPlan
    filtered: bool  # by seccomp
    cgroups: Mapping[str, str]  # as from cgroups_of()


def check_restored(pid: int, bounds: Bounds) -> None:
    """Raise NotOfBundleError if *pid* or a process below it exceeds *bounds*.

    Zombies are skipped: they are in no namespace and can do nothing.
    """
    for task in tree(pid):
        if has_ended(read_stat(task)):
            continue
        if why := _where(task, pid, bounds) or _power(task, pid, bounds):
            raise NotOfBundleError(why)


def may_mount(process: ProcessPlan) -> bool:
    """Whether the bundle lets its processes change mounts."""
    return bool(process.capabilities.bounding >> _CAP_SYS_ADMIN & 1)


def tree(pid: int) -> Iterator[int]:
    """Yield *pid* and all its descendants."""
    yield pid
    for thread in os.listdir(f"/proc/{pid}/task"):
        for child in children_of(pid, thread):
            yield from tree(child)


def children_of(pid: int | str, thread: str) -> list[int]:
    """Return the children started by *thread* of process *pid*. proc_pid_task_children(5)."""
    with open(f"/proc/{pid}/task/{thread}/children") as file:
        return [int(child) for child in file.read().split()]


def cgroups_of(pid: int) -> dict[str, str]:
    """Return process *pid*'s cgroup in each hierarchy, by its controllers. cgroups(7)."""
    with open(f"/proc/{pid}/cgroup") as file:
        lines = [line.rstrip("\n").split(":", 2) for line in file]
    return {controllers: path for _, controllers, path in lines}


def _where(pid: int, first: int, bounds: Bounds) -> str:
    """Return what process *pid* is in that it must not be in, or ""."""
    for kind, file in FILES.items():
        if kind in bounds.namespaces.new and _namespace(pid, file) == _namespace("self", file):
            return f"a process is in the host's {file} namespace"
    if _namespace(pid, "mnt") != _namespace(first, "mnt") and not may_mount(bounds.process):
        return "a process has mounts of its own"
    for hierarchy, place in cgroups_of(pid).items():
        own = bounds.cgroups.get(hierarchy, "").rstrip("/")
        if not f"{place}/".startswith(f"{own}/"):
            return f"a process is outside the container's cgroup, in {place}"
    return _belongs(pid, bounds.namespaces) if pid == first else ""


def _belongs(pid: int, namespaces: Namespaces) -> str:
    """Return what is wrong with the namespaces of the first process, *pid*, or ""."""
    for kind, path in namespaces.join:
        if _namespace(pid, FILES[kind]) != os.stat(path).st_ino:
            return f"its first process is not in the {FILES[kind]} namespace {path}"
    if namespaces.idmap:
        wanted, found = namespaces.idmap, maps_of(pid)
        if [*map(sorted, wanted)] != [*map(sorted, found)]:
            return "its users and groups are mapped to others"
    return ""


def _power(pid: int, first: int, bounds: Bounds) -> str:
    """Return what process *pid* may do that it must not, or ""."""
    if pid != first and _namespace(pid, "user") != _namespace(first, "user"):
        return ""  # in a user namespace of its own, where it has every capability
    status = _status(pid)
    for name in _SETS:
        if int(status[name], 16) & ~bounds.process.capabilities.bounding:
            return f"a process has capabilities ({name}) that the bundle does not give"
    if bounds.process.no_new_privileges and status["NoNewPrivs"] != "1":
        return "a process may gain privileges"
    if bounds.filtered and status["Seccomp"] != "2":
        return "a process has no seccomp filter"
    return ""


def _namespace(pid: int | str, file: str) -> int:
    return os.stat(f"/proc/{pid}/ns/{file}").st_ino


def _status(pid: int) -> dict[str, str]:
    with open(f"/proc/{pid}/status") as file:
        return {key: value.strip() for key, _, value in (line.partition(":") for line in file)}
