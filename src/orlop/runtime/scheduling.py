"""Convert the specification's scheduling settings to the kernel's."""

from __future__ import annotations

from orlop.errors import InvalidArgumentError
from orlop.model.light import TYPE_CHECKING, Mapping, NamedTuple

if TYPE_CHECKING:
    from orlop.model import oci

PERSONALITIES: Mapping[str, int] = {"LINUX": 0x0000, "LINUX32": 0x0008}

POLICIES: Mapping[str, int] = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}

SCHEDULER_FLAGS: Mapping[str, int] = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}

IO_CLASSES: Mapping[str, int] = {
    "IOPRIO_CLASS_RT": 1,
    "IOPRIO_CLASS_BE": 2,
    "IOPRIO_CLASS_IDLE": 3,
}

#: <linux/mempolicy.h>
MEMORY_MODES: Mapping[str, int] = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}

MEMORY_FLAGS: Mapping[str, int] = {
    "MPOL_F_NUMA_BALANCING": 1 << 13,
    "MPOL_F_RELATIVE_NODES": 1 << 14,
    "MPOL_F_STATIC_NODES": 1 << 15,
}

_REAL_TIME = ("SCHED_FIFO", "SCHED_RR")
_MOST_NUMBER = 8191


class Scheduler(NamedTuple):
    policy: int
    flags: int
    nice: int
    priority: int
    deadline: tuple[int, int, int]


class MemoryPolicy(NamedTuple):
    mode: int  # including its flags
    nodes: frozenset[int]


class Affinity(NamedTuple):
    """The processors of a later process: before it is in the cgroup, and afterwards."""

    initial: frozenset[int]  # empty: no change
    final: frozenset[int]


def plan_scheduler(process: oci.Process) -> Scheduler | None:
    """Check process.scheduler; None if it is not set."""
    wanted = process.get("scheduler")
    if wanted is None:
        return None
    where = "process.scheduler"
    name = wanted.get("policy", "")
    policy = _named(POLICIES, name, f"{where}.policy")
    flags = _flags(SCHEDULER_FLAGS, wanted.get("flags", ()), f"{where}.flags")
    nice, priority = wanted.get("nice", 0), wanted.get("priority", 0)
    deadline = (wanted.get("runtime", 0), wanted.get("deadline", 0), wanted.get("period", 0))
    if not -20 <= nice <= 19:
        raise InvalidArgumentError(f"{where}.nice {nice} is not between -20 and 19")
    if priority and name not in _REAL_TIME:
        raise InvalidArgumentError(f"{where}.priority is for SCHED_FIFO and SCHED_RR only")
    if not 0 <= priority <= 99:
        raise InvalidArgumentError(f"{where}.priority {priority} is not between 0 and 99")
    if any(deadline) and name != "SCHED_DEADLINE":
        raise InvalidArgumentError(
            f"{where}: runtime, deadline and period are for SCHED_DEADLINE only"
        )
    if not all(0 <= time < 1 << 64 for time in deadline):
        raise InvalidArgumentError(f"{where}: runtime, deadline and period are out of range")
    return Scheduler(policy, flags, nice, priority, deadline)


def plan_io_priority(process: oci.Process) -> tuple[int, int] | None:
    """Check process.ioPriority, and return class and level."""
    wanted = process.get("ioPriority")
    if wanted is None:
        return None
    number = _named(IO_CLASSES, wanted.get("class", ""), "process.ioPriority.class")
    level = wanted.get("priority", 0)
    if not 0 <= level <= 7:
        raise InvalidArgumentError(f"process.ioPriority.priority {level} is not between 0 and 7")
    return number, level


def plan_affinity(process: oci.Process) -> Affinity | None:
    """Check process.execCPUAffinity."""
    wanted = process.get("execCPUAffinity")
    if wanted is None:
        return None
    where = "process.execCPUAffinity"
    return Affinity(
        _numbers(wanted.get("initial", ""), f"{where}.initial"),
        _numbers(wanted.get("final", ""), f"{where}.final"),
    )


def plan_personality(linux: oci.Linux) -> int | None:
    """Return the number of the execution domain, or None if it is not set."""
    wanted = linux.get("personality")
    if wanted is None:
        return None
    if wanted.get("flags"):
        raise InvalidArgumentError("linux.personality.flags: there are no flags yet")
    return _named(PERSONALITIES, wanted.get("domain", ""), "linux.personality.domain")


def plan_memory_policy(linux: oci.Linux) -> MemoryPolicy | None:
    """Check linux.memoryPolicy; the kernel checks which modes need nodes."""
    wanted = linux.get("memoryPolicy")
    if wanted is None:
        return None
    where = "linux.memoryPolicy"
    mode = _named(MEMORY_MODES, wanted.get("mode", ""), f"{where}.mode")
    flags = _flags(MEMORY_FLAGS, wanted.get("flags", ()), f"{where}.flags")
    return MemoryPolicy(mode | flags, _numbers(wanted.get("nodes", ""), f"{where}.nodes"))


def _named(known: Mapping[str, int], name: str, where: str) -> int:
    if name not in known:
        raise InvalidArgumentError(
            f"{where} {name!r} is unknown", hint=f"one of {', '.join(known)}"
        )
    return known[name]


def _flags(known: Mapping[str, int], names: list[str] | tuple[()], where: str) -> int:
    bits = 0
    for index, name in enumerate(names):
        bits |= _named(known, name, f"{where}[{index}]")
    return bits


def _numbers(text: str, where: str) -> frozenset[int]:
    """Return the numbers of a list in the kernel's format: "0-3,7"."""
    numbers: set[int] = set()
    for part in text.split(",") if text.strip() else ():
        first, dash, last = part.strip().partition("-")
        ends = (first, last if dash else first)
        if not all(end.isascii() and end.isdigit() and len(end) < 5 for end in ends):
            raise InvalidArgumentError(f"{where} {text!r} is no list of numbers and ranges")
        low, high = map(int, ends)
        if low > high or high > _MOST_NUMBER:
            raise InvalidArgumentError(f"{where} {text!r} has the range {part.strip()!r}")
        numbers.update(range(low, high + 1))
    return frozenset(numbers)
