"""Counters of cgroup v1 files. Documentation/admin-guide/cgroup-v1/."""

import os

from orlop.model.light import Mapping
from orlop.runtime.cgroups.files import read_number, read_or, read_table
from orlop.runtime.cgroups.interface import (
    BlockStatistics,
    CpuStatistics,
    HugetlbStatistics,
    Load,
    MemoryStatistics,
    PidsStatistics,
    Statistics,
)

#: From here up the kernel means "no limit": the largest page count, in bytes.
_NO_LIMIT = (1 << 63) - 2 * (1 << 20)


def read(directories: Mapping[str, str]) -> Statistics:
    """Read the counters of a cgroup, given its directory for each controller."""
    return Statistics(
        cpu=_cpu(directories.get("cpuacct"), directories.get("cpu")),
        memory=_memory(directories["memory"]) if "memory" in directories else MemoryStatistics(),
        pids=pids(directories["pids"]) if "pids" in directories else PidsStatistics(),
        io_bytes=_blkio(directories.get("blkio"), "io_service_bytes"),
        io_operations=_blkio(directories.get("blkio"), "io_serviced"),
        hugetlb=_hugetlb(directories.get("hugetlb")),
        version=1,
    )


def load(directories: Mapping[str, str]) -> Load:
    """Read the counters for monitors; *directories* has one for each controller."""
    account, memory = directories.get("cpuacct", ""), directories.get("memory", "")
    limit = read_number(f"{memory}/memory.limit_in_bytes", -1)
    return Load(
        cpu_ns=read_number(f"{account}/cpuacct.usage", -1),
        memory_bytes=in_use(memory, "memory.usage_in_bytes", "total_inactive_file"),
        memory_limit_bytes=-1 if limit >= _NO_LIMIT else limit,
        processes=read_number(f"{directories.get('pids', '')}/pids.current", -1),
    )


def in_use(directory: str, file: str, idle: str) -> int:
    """Return the memory in *file* less the *idle* part in memory.stat; -1 if it is gone."""
    usage = read_number(f"{directory}/{file}", -1)
    if usage < 0:
        return -1
    return max(0, usage - read_table(f"{directory}/memory.stat").get(idle, 0))


def _cpu(account: str | None, schedule: str | None) -> CpuStatistics:
    times = read_or(f"{account}/cpuacct.usage_percpu", "").split() if account else []
    throttling = read_table(f"{schedule}/cpu.stat") if schedule else {}
    return CpuStatistics(
        usage_ns=read_number(f"{account}/cpuacct.usage") if account else 0,
        user_ns=read_number(f"{account}/cpuacct.usage_user") if account else 0,
        system_ns=read_number(f"{account}/cpuacct.usage_sys") if account else 0,
        per_cpu_ns=tuple(int(time) for time in times),
        periods=throttling.get("nr_periods", 0),
        throttled_periods=throttling.get("nr_throttled", 0),
        throttled_ns=throttling.get("throttled_time", 0),
    )


def _memory(directory: str) -> MemoryStatistics:
    limit = read_number(f"{directory}/memory.limit_in_bytes", _NO_LIMIT)
    stat = read_table(f"{directory}/memory.stat")
    return MemoryStatistics(
        usage_bytes=read_number(f"{directory}/memory.usage_in_bytes"),
        peak_bytes=read_number(f"{directory}/memory.max_usage_in_bytes"),
        limit_bytes=None if limit >= _NO_LIMIT else limit,
        swap_bytes=stat.get("total_swap", stat.get("swap", 0)),
        failures=read_number(f"{directory}/memory.failcnt"),
        stat=stat,
    )


def pids(directory: str) -> PidsStatistics:
    """The same files in v1 and v2."""
    limit = read_number(f"{directory}/pids.max", -1)
    return PidsStatistics(
        current=read_number(f"{directory}/pids.current"), limit=None if limit < 0 else limit
    )


def _blkio(directory: str | None, counter: str) -> tuple[BlockStatistics, ...]:
    """Prefer the io scheduler's recursive counters; without them use the throttler's."""
    if directory is None:
        return ()
    for prefix in ("bfq.", "", "throttle."):
        text = read_or(f"{directory}/blkio.{prefix}{counter}_recursive", "")
        if entries := _entries(text):
            return entries
    return ()


def _entries(text: str) -> tuple[BlockStatistics, ...]:
    """Parse lines like "8:0 Read 4096"; the last, "Total 4096", has no device."""
    result = []
    for line in text.splitlines():
        device, _, rest = line.partition(" ")
        operation, _, value = rest.partition(" ")
        major, colon, minor = device.partition(":")
        if colon and value:
            entry = BlockStatistics(int(major), int(minor), operation.lower(), int(value))
            result.append(entry)
    return tuple(result)


def _hugetlb(directory: str | None) -> tuple[HugetlbStatistics, ...]:
    if directory is None:
        return ()
    sizes = sorted(
        name.split(".")[1] for name in os.listdir(directory) if name.endswith(".usage_in_bytes")
    )
    return tuple(
        HugetlbStatistics(
            size,
            read_number(f"{directory}/hugetlb.{size}.usage_in_bytes"),
            read_number(f"{directory}/hugetlb.{size}.max_usage_in_bytes"),
            read_number(f"{directory}/hugetlb.{size}.failcnt"),
        )
        for size in sizes
        if not size.startswith("rsvd")
    )
