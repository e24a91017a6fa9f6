"""A task's counters as containerd's clients read them: messages for cgroups v1, and for v2."""

from typing import Any

from orlop.api.containerd import v1
from orlop.runtime.cgroups.interface import BlockStatistics, Statistics

_UNLIMITED = (1 << 64) - 1
_STAT = ("anon", "file", "inactive_anon", "active_anon", "inactive_file", "active_file")
_TOTALS = ("total_cache", "total_rss", "total_inactive_file", "total_active_file")


def metrics(counted: Statistics) -> dict[str, Any]:
    """Return the Any with what was *counted*."""
    if counted.version == 1:
        return {
            "type_url": "io.containerd.cgroups.v1.Metrics",
            "value": _of_v1(counted).SerializeToString(),
        }
    return {
        "type_url": "io.containerd.cgroups.v2.Metrics",
        "value": _of_v2(counted).SerializeToString(),
    }


def _of_v1(counted: Statistics) -> v1.V1Metrics:
    cpu, memory, stat = counted.cpu, counted.memory, counted.memory.stat
    entry = v1.V1Memory.Entry(
        limit=_limit(memory.limit_bytes),
        usage=memory.usage_bytes,
        max=memory.peak_bytes,
        failcnt=memory.failures,
    )
    totals = {name: stat.get(name, 0) for name in _TOTALS}
    return v1.V1Metrics(
        pids=_pids(counted),
        cpu=v1.V1Processor(
            usage=v1.V1Processor.Usage(
                total=cpu.usage_ns, kernel=cpu.system_ns, user=cpu.user_ns, per_cpu=cpu.per_cpu_ns
            ),
            throttling=v1.V1Processor.Throttling(
                periods=cpu.periods,
                throttled_periods=cpu.throttled_periods,
                throttled_time=cpu.throttled_ns,
            ),
        ),
        memory=v1.V1Memory(
            cache=stat.get("cache", 0), rss=stat.get("rss", 0), usage=entry, **totals
        ),
        blkio=v1.V1Blocks(
            io_service_bytes_recursive=[*map(_block, counted.io_bytes)],
            io_serviced_recursive=[*map(_block, counted.io_operations)],
        ),
    )


def _of_v2(counted: Statistics) -> v1.V2Metrics:
    cpu, memory = counted.cpu, counted.memory
    stat = {name: memory.stat.get(name, 0) for name in _STAT}
    return v1.V2Metrics(
        pids=_pids(counted),
        cpu=v1.V2Processor(
            usage_usec=cpu.usage_ns // 1000,
            user_usec=cpu.user_ns // 1000,
            system_usec=cpu.system_ns // 1000,
            nr_periods=cpu.periods,
            nr_throttled=cpu.throttled_periods,
            throttled_usec=cpu.throttled_ns // 1000,
        ),
        memory=v1.V2Memory(
            usage=memory.usage_bytes,
            usage_limit=_limit(memory.limit_bytes),
            swap_usage=memory.swap_bytes,
            max_usage=memory.peak_bytes,
            **stat,
        ),
    )


def _pids(counted: Statistics) -> v1.PidsUse:
    return v1.PidsUse(current=counted.pids.current, limit=counted.pids.limit or 0)


def _limit(limit_bytes: int | None) -> int:
    return _UNLIMITED if limit_bytes is None else limit_bytes


def _block(one: BlockStatistics) -> v1.V1Blocks.Entry:
    name = one.operation.capitalize()
    return v1.V1Blocks.Entry(op=name, major=one.major, minor=one.minor, value=one.value)
