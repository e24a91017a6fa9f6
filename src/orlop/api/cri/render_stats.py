"""From a cgroup's counters to the CRI's statistics."""

from collections.abc import Mapping

from orlop.api.cri import v1
from orlop.kernel.netlink.links import Counters
from orlop.runtime.cgroups import Statistics
from orlop.runtime.cgroups.interface import MemoryStatistics, Stall


def number(value: int) -> v1.UInt64Value:
    """Return a number that is not below 0."""
    return v1.UInt64Value(value=max(0, value))


def working_set(memory: MemoryStatistics) -> int:
    """Return the bytes in use that cannot be reclaimed at once."""
    return max(0, memory.usage_bytes - _counted(memory, "inactive_file"))


def resident(memory: MemoryStatistics) -> int:
    """Return the bytes of memory that no file is behind."""
    return _counted(memory, "rss") or memory.stat.get("anon", 0)


def page_faults(memory: MemoryStatistics, *, major: bool = False) -> int:
    """Return the number of page faults; *major*: those that waited for a disk."""
    return _counted(memory, "pgmajfault" if major else "pgfault")


def cpu(counted: Statistics, now_ns: int, per_second: int | None) -> v1.CpuUsage:
    """Return times of processors; *per_second* are nanoseconds, None if they are not known."""
    return v1.CpuUsage(
        timestamp=now_ns,
        usage_core_nano_seconds=number(counted.cpu.usage_ns),
        usage_nano_cores=None if per_second is None else number(per_second),
        psi=_pressure(counted, "cpu"),
    )


def memory(counted: Statistics, now_ns: int) -> v1.MemoryUsage:
    """Return what is in use; what is available only if there is a limit."""
    used = counted.memory
    working, limit = working_set(used), used.limit_bytes
    return v1.MemoryUsage(
        timestamp=now_ns,
        working_set_bytes=number(working),
        available_bytes=None if limit is None else number(limit - working),
        usage_bytes=number(used.usage_bytes),
        rss_bytes=number(resident(used)),
        page_faults=number(page_faults(used)),
        major_page_faults=number(page_faults(used, major=True)),
        psi=_pressure(counted, "memory"),
    )


def io(counted: Statistics, now_ns: int) -> v1.IoUsage | None:
    """Return the waiting times for disks; None if the kernel does not measure them."""
    pressure = _pressure(counted, "io")
    return None if pressure is None else v1.IoUsage(timestamp=now_ns, psi=pressure)


def network(counters: Mapping[str, Counters], now_ns: int) -> v1.NetworkUsage:
    """Return what went through the interfaces; the first is the default one."""
    first, *rest = (
        v1.NetworkInterfaceUsage(
            name=name,
            rx_bytes=number(seen.rx_bytes),
            rx_errors=number(seen.rx_errors),
            tx_bytes=number(seen.tx_bytes),
            tx_errors=number(seen.tx_errors),
        )
        for name, seen in counters.items()
    )
    return v1.NetworkUsage(timestamp=now_ns, default_interface=first, interfaces=rest)


def _counted(memory: MemoryStatistics, name: str) -> int:
    """Return a number of memory.stat, with the cgroups below in it: v1 has both kinds."""
    return memory.stat.get(f"total_{name}", memory.stat.get(name, 0))


def _pressure(counted: Statistics, resource: str) -> v1.PsiStats | None:
    stalls = counted.pressure.get(resource)
    if not stalls:
        return None
    return v1.PsiStats(**{name.capitalize(): _stall(stall) for name, stall in stalls.items()})


def _stall(stall: Stall) -> v1.PsiData:
    return v1.PsiData(
        Total=stall.total_us * 1000, Avg10=stall.avg10, Avg60=stall.avg60, Avg300=stall.avg300
    )
