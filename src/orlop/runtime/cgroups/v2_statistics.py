"""Counters of cgroup v2 files. cgroup-v2.rst, "Controllers"."""

import os

from orlop.runtime.cgroups.files import read_number, read_or, read_table
from orlop.runtime.cgroups.interface import (
    BlockStatistics,
    CpuStatistics,
    HugetlbStatistics,
    Load,
    MemoryStatistics,
    Stall,
    Statistics,
)
from orlop.runtime.cgroups.v1_statistics import in_use, pids

_PRESSED = ("cpu", "memory", "io")
_OPERATIONS = ("read", "write", "discard")


def read(directory: str) -> Statistics:
    """Read the counters of the cgroup at *directory*; a missing controller counts nothing."""
    io = read_or(f"{directory}/io.stat", "")
    return Statistics(
        cpu=_cpu(directory),
        memory=_memory(directory),
        pids=pids(directory),
        io_bytes=_io(io, ("rbytes", "wbytes", "dbytes")),
        io_operations=_io(io, ("rios", "wios", "dios")),
        hugetlb=_hugetlb(directory),
        version=2,
        pressure={name: _pressure(f"{directory}/{name}.pressure") for name in _PRESSED},
    )


def load(directory: str) -> Load:
    """Read the counters for monitors."""
    used_us = read_table(f"{directory}/cpu.stat").get("usage_usec", -1)
    return Load(
        cpu_ns=used_us * 1000 if used_us >= 0 else -1,
        memory_bytes=in_use(directory, "memory.current", "inactive_file"),
        memory_limit_bytes=read_number(f"{directory}/memory.max", -1),
        processes=read_number(f"{directory}/pids.current", -1),
    )


def _pressure(path: str) -> dict[str, Stall]:
    """Parse lines of "some avg10=0.00 avg60=0.00 avg300=0.00 total=0"; {} if not counted."""
    found = {}
    for line in read_or(path, "").splitlines():
        who, *words = line.split()
        told = dict(word.partition("=")[::2] for word in words)
        avg10, avg60, avg300 = (float(told.get(f"avg{time}", 0)) for time in (10, 60, 300))
        found[who] = Stall(avg10, avg60, avg300, int(told.get("total", 0)))
    return found


def _cpu(directory: str) -> CpuStatistics:
    stat = read_table(f"{directory}/cpu.stat")
    return CpuStatistics(
        usage_ns=stat.get("usage_usec", 0) * 1000,
        user_ns=stat.get("user_usec", 0) * 1000,
        system_ns=stat.get("system_usec", 0) * 1000,
        periods=stat.get("nr_periods", 0),
        throttled_periods=stat.get("nr_throttled", 0),
        throttled_ns=stat.get("throttled_usec", 0) * 1000,
    )


def _memory(directory: str) -> MemoryStatistics:
    limit = read_number(f"{directory}/memory.max", -1)
    return MemoryStatistics(
        usage_bytes=read_number(f"{directory}/memory.current"),
        peak_bytes=read_number(f"{directory}/memory.peak"),
        limit_bytes=None if limit < 0 else limit,
        swap_bytes=read_number(f"{directory}/memory.swap.current"),
        failures=read_table(f"{directory}/memory.events").get("max", 0),
        stat=read_table(f"{directory}/memory.stat"),
    )


def _io(text: str, keys: tuple[str, str, str]) -> tuple[BlockStatistics, ...]:
    """Parse lines of "8:0 rbytes=1 wbytes=2 rios=3 …"."""
    result = []
    for line in text.splitlines():
        device, _, rest = line.partition(" ")
        major, _, minor = device.partition(":")
        counters = dict(word.partition("=")[::2] for word in rest.split())
        for operation, key in zip(_OPERATIONS, keys, strict=True):
            if key in counters:
                value = int(counters[key])
                result.append(BlockStatistics(int(major), int(minor), operation, value))
    return tuple(result)


def _hugetlb(directory: str) -> tuple[HugetlbStatistics, ...]:
    names = [name.split(".") for name in os.listdir(directory) if name.startswith("hugetlb.")]
    sizes = sorted(parts[1] for parts in names if len(parts) == 3 and parts[2] == "current")
    return tuple(
        HugetlbStatistics(
            size,
            read_number(f"{directory}/hugetlb.{size}.current"),
            0,
            read_table(f"{directory}/hugetlb.{size}.events").get("max", 0),
        )
        for size in sizes
    )
