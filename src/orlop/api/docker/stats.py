"""Statistics of containers, once or every second."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from orlop.api.docker.answers import json
from orlop.api.docker.lines import line
from orlop.api.docker.routing import Call
from orlop.api.docker.times import rfc3339
from orlop.api.messages import Reply, Stream
from orlop.errors import OrlopError
from orlop.model.container import Container
from orlop.runtime.cgroups.interface import BlockStatistics, CpuStatistics, Statistics

if TYPE_CHECKING:
    from orlop.kernel.netlink.links import Counters

Shape = dict[str, Any]
#: Clients draw one line a second, and Docker sends one a second.
_INTERVAL_S = 1.0


class Sample(NamedTuple):
    """Counters at one moment; without *statistics* if the container was not running."""

    time_ns: int
    host_cpu_ns: int
    statistics: Statistics | None
    networks: "Mapping[str, Counters]" = MappingProxyType({})


async def timeline(call: Call) -> Reply:
    """GET /containers/{name}/timeline, which Docker does not have: see docs/timeline.md.

    For a container that was created or started with ?timeline=1, even after its removal;
    then *name* is its full id.
    """
    return json({"Steps": call.engine.timeline(call.name)})


async def stats(call: Call) -> Reply:
    """GET /containers/{name}/stats.

    stream=0 answers once, after a second so that there is a difference to
    show; with one-shot=1 at once.
    """
    container = call.engine.containers.get(call.name)
    if call.query.flag("stream", default=True):
        return Stream(_stream(call, container))
    before = await _sample(call, container)
    if call.query.flag("one-shot"):
        return json(render_sample(container, before, None))
    if before.statistics is not None:
        await asyncio.sleep(_INTERVAL_S)
    return json(render_sample(container, await _sample(call, container), before))


async def _stream(call: Call, container: Container) -> AsyncIterator[bytes]:
    before: Sample | None = None
    while True:
        try:
            container = call.engine.containers.get(container.id)
        except OrlopError:
            return  # it is gone, so its figures end
        sample = await _sample(call, container)
        yield line(render_sample(container, sample, before))
        before = sample
        await asyncio.sleep(_INTERVAL_S)


async def _sample(call: Call, container: Container) -> Sample:
    if not container.running:
        return Sample(time.time_ns(), _host_cpu_ns(), None)
    statistics = await call.engine.containers.stats(container.id)
    networks = await call.engine.networks.counters(container)
    return Sample(time.time_ns(), _host_cpu_ns(), statistics, networks)


def _host_cpu_ns() -> int:
    """Return the total time of all processors. proc_stat(5)."""
    with open("/proc/stat", encoding="ascii") as file:
        ticks = sum(int(word) for word in file.readline().split()[1:9])
    return ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def render_sample(container: Container, sample: Sample, before: Sample | None) -> Shape:
    """Return one set of figures in Docker's format."""
    now = sample.statistics
    earlier = before.statistics if before else None
    return {
        "id": container.id,
        "name": "/" + container.name,
        "read": rfc3339(sample.time_ns),
        "preread": rfc3339(before.time_ns if before else 0),
        "num_procs": 0,
        "pids_stats": _pids(now),
        "cpu_stats": _cpu(now.cpu, sample.host_cpu_ns) if now else _cpu(CpuStatistics(), None),
        "precpu_stats": _cpu(earlier.cpu, before.host_cpu_ns)
        if earlier and before
        else _cpu(CpuStatistics(), None),
        "memory_stats": _memory(now),
        "blkio_stats": _block(now),
        "storage_stats": {},
        "networks": {name: seen._asdict() for name, seen in sample.networks.items()},
    }


def _pids(statistics: Statistics | None) -> Shape:
    if statistics is None:
        return {}
    shape: Shape = {"current": statistics.pids.current}
    if statistics.pids.limit is not None:
        shape["limit"] = statistics.pids.limit
    return shape


def _cpu(cpu: CpuStatistics, host_cpu_ns: int | None) -> Shape:
    shape: Shape = {
        "cpu_usage": {
            "total_usage": cpu.usage_ns,
            "usage_in_kernelmode": cpu.system_ns,
            "usage_in_usermode": cpu.user_ns,
        },
        "throttling_data": {
            "periods": cpu.periods,
            "throttled_periods": cpu.throttled_periods,
            "throttled_time": cpu.throttled_ns,
        },
    }
    if host_cpu_ns is not None:
        shape |= {"system_cpu_usage": host_cpu_ns, "online_cpus": os.cpu_count() or 1}
    if cpu.per_cpu_ns:
        shape["cpu_usage"]["percpu_usage"] = cpu.per_cpu_ns
    return shape


def _memory(statistics: Statistics | None) -> Shape:
    if statistics is None:
        return {}
    memory = statistics.memory
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    shape: Shape = {
        "usage": memory.usage_bytes,
        "limit": total if memory.limit_bytes is None else memory.limit_bytes,
        "stats": dict(memory.stat),
    }
    if statistics.version == 1:
        shape |= {"max_usage": memory.peak_bytes, "failcnt": memory.failures}
    return shape


def _block(statistics: Statistics | None) -> Shape:
    return {
        "io_service_bytes_recursive": _entries(statistics.io_bytes) if statistics else None,
        "io_serviced_recursive": _entries(statistics.io_operations) if statistics else None,
        "io_queue_recursive": None,
        "io_service_time_recursive": None,
        "io_wait_time_recursive": None,
        "io_merged_recursive": None,
        "io_time_recursive": None,
        "sectors_recursive": None,
    }


def _entries(entries: tuple[BlockStatistics, ...]) -> list[Shape]:
    return [
        {"major": e.major, "minor": e.minor, "op": e.operation, "value": e.value} for e in entries
    ]
