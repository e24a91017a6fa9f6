"""The part of CRI's RuntimeService that counts: statistics and metrics."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

from orlop.api.cri import render_stats, v1
from orlop.api.cri.batches import batches
from orlop.api.cri.containers import find_container, listed_containers
from orlop.api.cri.metrics import descriptors, of_container, of_pod
from orlop.api.cri.pods import asked, listed_pods
from orlop.api.cri.render_container import render_container
from orlop.engine.engine import Engine
from orlop.errors import NotFoundError, WrongStateError
from orlop.kernel.netlink.links import Counters
from orlop.model.container import Container
from orlop.runtime.cgroups import Statistics

_SIZES_S = 10.0  # sizes of files are measured again after that long


class _Pod(NamedTuple):
    pod: Container
    counted: Statistics | None  # None without a cgroup of its own
    traffic: Mapping[str, Counters]
    containers: list[tuple[Container, Statistics]]  # those that run


class StatsCalls:
    """What containers and pods use. Those that end meanwhile are left out."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._times: dict[str, tuple[int, int]] = {}  # by id: when, processor time
        self._sizes: dict[str, tuple[float, int]] = {}  # by id: when, bytes

    async def ContainerStats(self, request: v1.ContainerStatsRequest) -> v1.ContainerStatsResponse:
        found = find_container(self._engine, request.container_id)
        counted = await self._engine.containers.stats(found.id) if found.running else None
        return v1.ContainerStatsResponse(stats=await self._container(found, counted))

    async def ListContainerStats(
        self, request: v1.ListContainerStatsRequest
    ) -> v1.ListContainerStatsResponse:
        return v1.ListContainerStatsResponse(stats=await self._containers(request.filter))

    async def StreamContainerStats(
        self, request: v1.StreamContainerStatsRequest
    ) -> AsyncGenerator[v1.StreamContainerStatsResponse, None]:
        for batch in batches(await self._containers(request.filter)):
            yield v1.StreamContainerStatsResponse(container_stats=batch)

    async def PodSandboxStats(
        self, request: v1.PodSandboxStatsRequest
    ) -> v1.PodSandboxStatsResponse:
        pod = self._engine.pods.get(request.pod_sandbox_id)
        return v1.PodSandboxStatsResponse(stats=await self._pod(await self._read(pod)))

    async def ListPodSandboxStats(
        self, request: v1.ListPodSandboxStatsRequest
    ) -> v1.ListPodSandboxStatsResponse:
        return v1.ListPodSandboxStatsResponse(stats=await self._pods(request.filter))

    async def StreamPodSandboxStats(
        self, request: v1.StreamPodSandboxStatsRequest
    ) -> AsyncGenerator[v1.StreamPodSandboxStatsResponse, None]:
        for batch in batches(await self._pods(request.filter)):
            yield v1.StreamPodSandboxStatsResponse(pod_sandbox_stats=batch)

    async def ListMetricDescriptors(
        self, _request: v1.ListMetricDescriptorsRequest
    ) -> v1.ListMetricDescriptorsResponse:
        return v1.ListMetricDescriptorsResponse(descriptors=descriptors())

    async def ListPodSandboxMetrics(
        self, _request: v1.ListPodSandboxMetricsRequest
    ) -> v1.ListPodSandboxMetricsResponse:
        return v1.ListPodSandboxMetricsResponse(pod_metrics=await self._metrics())

    async def StreamPodSandboxMetrics(
        self, _request: v1.StreamPodSandboxMetricsRequest
    ) -> AsyncGenerator[v1.StreamPodSandboxMetricsResponse, None]:
        for batch in batches(await self._metrics()):
            yield v1.StreamPodSandboxMetricsResponse(pod_sandbox_metrics=batch)

    async def _containers(self, wanted: v1.ContainerStatsFilter) -> list[v1.ContainerStats]:
        chosen = v1.ContainerFilter(
            id=wanted.id,
            pod_sandbox_id=wanted.pod_sandbox_id,
            label_selector=wanted.label_selector,
            state=v1.ContainerStateValue(state=v1.CONTAINER_RUNNING),
        )
        running = await self._counted(listed_containers(self._engine, chosen))
        return [await self._container(*one) for one in running]

    async def _counted(self, containers: Iterable[Container]) -> list[tuple[Container, Statistics]]:
        found = await asyncio.gather(*map(self._count, containers))
        return [(container, counted) for container, counted in found if counted is not None]

    async def _count(self, container: Container) -> tuple[Container, Statistics | None]:
        with suppress(NotFoundError, WrongStateError):
            return container, await self._engine.containers.stats(container.id)
        return container, None

    async def _container(
        self, container: Container, counted: Statistics | None
    ) -> v1.ContainerStats:
        now_ns = time.time_ns()
        shown = render_container(container)
        stats = v1.ContainerStats(
            attributes=v1.ContainerAttributes(
                id=container.id,
                metadata=shown.metadata,
                labels=shown.labels,
                annotations=shown.annotations,
            ),
            writable_layer=v1.FilesystemUsage(
                timestamp=now_ns,
                fs_id=v1.FilesystemIdentifier(mountpoint=str(self._engine.settings.root)),
                used_bytes=render_stats.number(await self._size(container.id)),
            ),
        )
        if counted is not None:
            stats.cpu.CopyFrom(self._cpu(container.id, counted, now_ns))
            stats.memory.CopyFrom(render_stats.memory(counted, now_ns))
            stats.swap.CopyFrom(_swap(container, counted, now_ns))
            stats.io.MergeFrom(render_stats.io(counted, now_ns) or v1.IoUsage())
        return stats

    def _cpu(self, name: str, counted: Statistics, now_ns: int) -> v1.CpuUsage:
        before_ns, before = self._times.get(name, (0, 0))
        self._times[name] = now_ns, counted.cpu.usage_ns
        per_second = None
        if before_ns and now_ns > before_ns:
            per_second = (counted.cpu.usage_ns - before) * 10**9 // (now_ns - before_ns)
        return render_stats.cpu(counted, now_ns, per_second)

    async def _size(self, container_id: str) -> int:
        now_s = time.monotonic()
        measured_s, size = self._sizes.get(container_id, (-_SIZES_S, 0))
        if now_s - measured_s >= _SIZES_S:
            with suppress(NotFoundError, WrongStateError):
                size = (await self._engine.containers.size(container_id)).writable
            self._sizes[container_id] = now_s, size
        return size

    async def _pods(self, wanted: v1.PodSandboxStatsFilter) -> list[v1.PodSandboxStats]:
        return [await self._pod(one) for one in await self._read_all(wanted)]

    async def _read_all(self, wanted: v1.PodSandboxStatsFilter) -> list[_Pod]:
        self._forget_ended()
        chosen = v1.PodSandboxFilter(
            id=wanted.id,
            label_selector=wanted.label_selector,
            state=v1.PodSandboxStateValue(state=v1.SANDBOX_READY),
        )
        return await asyncio.gather(*map(self._read, listed_pods(self._engine, chosen)))

    async def _read(self, pod: Container) -> _Pod:
        running = [one for one in self._engine.pods.containers(pod.id) if one.running]
        return _Pod(
            pod,
            await self._engine.pods.stats(pod.id),
            await self._engine.pods.traffic(pod.id),
            await self._counted(running),
        )

    async def _pod(self, read: _Pod) -> v1.PodSandboxStats:
        now_ns, config = time.time_ns(), asked(read.pod).config
        linux = v1.LinuxPodSandboxStats(
            containers=[await self._container(*one) for one in read.containers]
        )
        if read.counted is not None:
            linux.cpu.CopyFrom(self._cpu(read.pod.id, read.counted, now_ns))
            linux.memory.CopyFrom(render_stats.memory(read.counted, now_ns))
            linux.process.timestamp = now_ns
            linux.process.process_count.value = read.counted.pids.current
            linux.io.MergeFrom(render_stats.io(read.counted, now_ns) or v1.IoUsage())
        if read.traffic:
            linux.network.CopyFrom(render_stats.network(read.traffic, now_ns))
        attributes = v1.PodSandboxAttributes(
            id=read.pod.id,
            metadata=config.metadata,
            labels=config.labels,
            annotations=config.annotations,
        )
        return v1.PodSandboxStats(attributes=attributes, linux=linux)

    async def _metrics(self) -> list[v1.PodSandboxMetrics]:
        return [
            v1.PodSandboxMetrics(
                pod_sandbox_id=read.pod.id,
                metrics=of_pod(read.pod, read.counted, read.traffic),
                container_metrics=[
                    v1.ContainerMetrics(
                        container_id=container.id, metrics=of_container(container, counted)
                    )
                    for container, counted in read.containers
                ],
            )
            for read in await self._read_all(v1.PodSandboxStatsFilter())
        ]

    def _forget_ended(self) -> None:
        """Forget what was measured of containers and pods that are gone."""
        containers = self._engine.containers.list(all=True)
        known = {one.id for one in (*containers, *self._engine.pods.list())}
        self._times = {key: seen for key, seen in self._times.items() if key in known}
        self._sizes = {key: seen for key, seen in self._sizes.items() if key in known}


def _swap(container: Container, counted: Statistics, now_ns: int) -> v1.SwapUsage:
    used = counted.memory.swap_bytes
    limits = container.options.resources
    memory, both = limits.memory_bytes or 0, limits.memory_swap_bytes or 0
    available = render_stats.number(both - memory - used) if both > 0 and memory else None
    return v1.SwapUsage(
        timestamp=now_ns,
        swap_available_bytes=available,
        swap_usage_bytes=render_stats.number(used),
    )
