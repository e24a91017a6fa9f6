"""A container's statistics and OOM kills, in runc's format.

Zeros are left out where runc does so; "limit" without a limit is the kernel's largest number.
"""

from __future__ import annotations

import select

from orlop.errors import UnsupportedError, WrongStateError
from orlop.kernel.process import pidfd_open
from orlop.lifecycle.cgroup import of_record
from orlop.lifecycle.record import STOPPED, status
from orlop.model.light import TYPE_CHECKING
from orlop.runtime.cgroups.files import read_number, read_or

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from orlop.lifecycle.folder import Folder
    from orlop.lifecycle.statefile import Record
    from orlop.runtime.cgroups.interface import BlockStatistics, Cgroup, Statistics

    Event = dict[str, Any]

#: No limit: v1's largest whole number of pages, v2's largest number.
_NO_LIMIT = {1: (1 << 63) - 4096, 2: (1 << 64) - 1}
_CPUSET_FLAGS = (
    "cpu_exclusive",
    "mem_hardwall",
    "mem_exclusive",
    "memory_migrate",
    "memory_spread_page",
    "memory_spread_slab",
    "memory_pressure",
    "sched_load_balance",
    "sched_relax_domain_level",
)
_OOM_LOOK_S = 0.2


def statistics(folder: Folder, record: Record) -> Event:
    """Return one event with the container's current statistics."""
    if status(folder, record) == STOPPED:
        raise WrongStateError(f"container with id {folder.name} is not running")
    data = _data(_cgroup(record), record["cgroup_paths"])
    return {"type": "stats", "id": folder.name, "data": data}


def follow(folder: Folder, record: Record, *, interval_s: float) -> Iterator[Event]:
    """Yield the container's statistics every *interval_s*, and each OOM kill.

    Ends when the container stops.
    """
    if status(folder, record) == STOPPED:
        raise WrongStateError(f"container with id {folder.name} is not running")
    cgroup = _cgroup(record)
    poller = select.poll()
    poller.register(pidfd_open(record["init_process_pid"]), select.POLLIN)
    kills, left_s = cgroup.oom_kills(), interval_s
    while True:
        pause_s = min(left_s, _OOM_LOOK_S)
        ended = bool(poller.poll(1000 * pause_s))
        if cgroup.oom_kills() > kills:
            kills = cgroup.oom_kills()
            yield {"type": "oom", "id": folder.name}
        if ended:
            return
        left_s -= pause_s
        if left_s <= 0:
            left_s = interval_s
            data = _data(cgroup, record["cgroup_paths"])
            yield {"type": "stats", "id": folder.name, "data": data}


def _cgroup(record: Record) -> Cgroup:
    cgroup = of_record(record)
    if cgroup is None:
        raise UnsupportedError(f"container {record['id']} has no cgroup of its own")
    return cgroup


def _data(cgroup: Cgroup, paths: Mapping[str, str]) -> dict[str, Any]:
    read = cgroup.statistics()
    return {
        "cpu": _cpu(read, paths),
        "cpuset": _cpuset(paths.get("cpuset")),
        "memory": _memory(read, paths.get("memory", "")),
        "pids": _some(current=read.pids.current, limit=read.pids.limit),
        "blkio": _some(
            ioServiceBytesRecursive=_devices(read.io_bytes),
            ioServicedRecursive=_devices(read.io_operations),
        )
        | _psi(read, "io"),
        "hugetlb": {
            page.size: _some(usage=page.usage_bytes, max=page.peak_bytes)
            | {"failcnt": page.failures}
            for page in read.hugetlb
        },
        "intel_rdt": {},
        "network_interfaces": None,
    }


def _some(**values: Any) -> dict[str, Any]:
    """Return those *values* that are not empty."""
    return {name: value for name, value in values.items() if value}


def _cpu(read: Statistics, paths: Mapping[str, str]) -> dict[str, Any]:
    account = paths.get("cpuacct", "")
    usage = _some(
        total=read.cpu.usage_ns,
        percpu=list(read.cpu.per_cpu_ns),
        percpu_kernel=_numbers(f"{account}/cpuacct.usage_percpu_sys") if account else [],
        percpu_user=_numbers(f"{account}/cpuacct.usage_percpu_user") if account else [],
    )
    throttling = _some(
        periods=read.cpu.periods,
        throttledPeriods=read.cpu.throttled_periods,
        throttledTime=read.cpu.throttled_ns,
    )
    usage |= {"kernel": read.cpu.system_ns, "user": read.cpu.user_ns}
    return {"usage": usage, "throttling": throttling} | _psi(read, "cpu")


def _psi(read: Statistics, resource: str) -> dict[str, Any]:
    """Return how long processes waited for *resource*, if the kernel counts that."""
    stalls = read.pressure.get(resource, {})
    told = {
        who: {"avg10": s.avg10, "avg60": s.avg60, "avg300": s.avg300, "total": s.total_us}
        for who, s in stalls.items()
    }
    return {"psi": told} if told else {}


def _numbers(path: str) -> list[int]:
    return [int(word) for word in read_or(path, "").split()]


def _cpuset(directory: str | None) -> dict[str, Any]:
    """Return v1's cpuset; under v2 runc has only cpus and mems."""
    if directory is None:
        return {}
    flags = {name: read_number(f"{directory}/cpuset.{name}") for name in _CPUSET_FLAGS}
    cpus = _range(read_or(f"{directory}/cpuset.cpus", ""))
    mems = _range(read_or(f"{directory}/cpuset.mems", ""))
    exclusive = {"cpu_exclusive": flags.pop("cpu_exclusive")}
    return _some(cpus=cpus) | exclusive | _some(mems=mems) | flags


def _range(text: str) -> list[int]:
    """Return the numbers of "0-2,5"."""
    numbers: list[int] = []
    for part in text.split(",") if text else ():
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def _memory(read: Statistics, directory: str) -> dict[str, Any]:
    limit = read.memory.limit_bytes or _NO_LIMIT[read.version]
    memory: dict[str, Any] = {}
    if cache := read.memory.stat.get("cache" if read.version == 1 else "file", 0):
        memory["cache"] = cache
    memory["usage"] = _entry(
        limit, read.memory.usage_bytes, read.memory.peak_bytes, read.memory.failures
    )
    if read.version == 1:
        for name, kind in (("swap", "memsw"), ("kernel", "kmem"), ("kernelTCP", "kmem.tcp")):
            memory[name] = _counter(f"{directory}/memory.{kind}")
    else:
        swap_limit = read_number(f"{directory}/memory.swap.max", _NO_LIMIT[2])
        memory["swap"] = _entry(swap_limit, read.memory.swap_bytes, 0, 0)
        memory["kernel"] = memory["kernelTCP"] = _entry(0, 0, 0, 0)
    memory["raw"] = dict(sorted(read.memory.stat.items()))
    return memory | _psi(read, "memory")


def _counter(prefix: str) -> dict[str, int]:
    return _entry(
        read_number(f"{prefix}.limit_in_bytes"),
        read_number(f"{prefix}.usage_in_bytes"),
        read_number(f"{prefix}.max_usage_in_bytes"),
        read_number(f"{prefix}.failcnt"),
    )


def _entry(limit: int, usage: int, peak: int, failures: int) -> dict[str, int]:
    return {"limit": limit} | _some(usage=usage, max=peak) | {"failcnt": failures}


def _devices(counters: Iterable[BlockStatistics]) -> list[dict[str, Any]]:
    return [
        _some(major=c.major, minor=c.minor, op=c.operation.capitalize(), value=c.value)
        for c in counters
    ]
