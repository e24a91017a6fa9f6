"""The engine and its machine as a whole."""

import os
import platform
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from orlop.engine.answers import CacheItem, DiskUsage, ImageSummary, Info, Pruned
from orlop.engine.containers.containers import Containers
from orlop.engine.context import Context
from orlop.engine.garbage import remove_garbage
from orlop.engine.identity import identity
from orlop.engine.images.images import Images
from orlop.engine.images.login import login
from orlop.engine.protections import protections
from orlop.engine.requests import NO_FILTERS, Credentials, Filters
from orlop.engine.threads import in_thread
from orlop.engine.volumes import Volumes, tree_size
from orlop.lifecycle import unsealed
from orlop.model.container import Status
from orlop.runtime.cgroups.layout import detect
from orlop.shim.build import BUILD


class System:
    def __init__(
        self, context: Context, *, images: Images, containers: Containers, volumes: Volumes
    ) -> None:
        self._context = context
        self._images = images
        self._containers = containers
        self._volumes = volumes

    @property
    def driver(self) -> str:
        """The snapshot driver in use."""
        return self._context.snapshots.name

    def info(self) -> Info:
        statuses = [container.status for container in self._context.records.all()]
        running = statuses.count(Status.RUNNING) + statuses.count(Status.RESTARTING)
        paused = statuses.count(Status.PAUSED)
        return Info(
            id=identity(self._context.settings.root),
            name=platform.node(),
            containers=len(statuses),
            running=running,
            paused=paused,
            stopped=len(statuses) - running - paused,
            images=len({image.config for image in self._context.metadata.images.list()}),
            driver=self.driver,
            root=str(self._context.settings.root),
            kernel=platform.release(),
            operating_system=_operating_system(),
            architecture=platform.machine(),
            cpus=len(os.sched_getaffinity(0)),
            memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            cgroup_version="1" if detect().v1 else "2",
            cgroup_driver="cgroupfs",
            security=("name=seccomp,profile=builtin", "name=cgroupns"),
            protections=protections(self._context),
            labels=self._context.settings.labels,
            warnings=self._warnings(),
            time_ns=time.time_ns(),
            subscribers=self._context.events.subscribers,
        )

    def _warnings(self) -> tuple[str, ...]:
        found = [
            f"the interpreter of {program} could not be sealed ({reason}): "
            "a copy in memory protects it, and each command takes longer"
            for program, reason in unsealed.reasons().items()
        ]
        if self._context.shim_build != BUILD:
            found.append(
                f"the shim, which holds the containers, is of {self._context.shim_build}, not of "
                f"{BUILD}: an engine that starts while no sandbox runs renews it"
            )
        place = self._context.settings.root
        if self._context.metadata.is_read_only:
            found.append(
                f"{place} is read-only: containers can be ended only; mount it writable, and start"
                " the engine again"
            )
        elif not self._context.metadata.has_reserve:
            found.append(f"no space left on {place}: containers can be ended and removed only")
        elif self._context.records.is_behind:
            found.append(f"{place} cannot be written: what happens is stored when it can be")
        return tuple(f"WARNING: {line}" for line in found)

    def layers_size(self) -> int:
        """Return the bytes that all layers take."""
        return sum(layer.size for layer in self._context.metadata.layers.list())

    async def disk_usage(self) -> DiskUsage:
        images = await self._images.list(all=True)
        records = self._context.records.all()
        containers = await self._containers.sizes(records)
        volumes = []
        for answer in self._volumes.list():
            size = await in_thread(tree_size, Path(answer.mountpoint))
            users = self._volumes.users_of(answer.volume.name)
            volumes.append((answer.volume, size, users))
        cache: tuple[CacheItem, ...] = ()
        if self._context.metadata.builds.list():
            from orlop.engine.builds.usage import items  # not for an engine that builds nothing

            cache = tuple(await in_thread(items, self._context))
        layers = {layer.key: layer.size for layer in self._context.metadata.layers.list()}
        in_use = {key for record in records for key in record.layers}
        return DiskUsage(
            layers=sum(layers.values()),
            unused_layers=sum(size for key, size in layers.items() if key not in in_use),
            images=_with_shared_sizes(images, layers),
            containers=tuple(containers),
            volumes=tuple(volumes),
            cache=cache,
        )

    async def prune(self, filters: Filters = NO_FILTERS, *, volumes: bool = False) -> Pruned:
        """Remove stopped containers, dangling images, and what an interrupted pull left."""
        pruned = [await self._containers.prune(filters), await self._images.prune(filters)]
        if volumes:
            pruned.append(await self._volumes.prune(filters))
        garbage = await in_thread(remove_garbage, self._context, partial=True)
        return Pruned(
            names=tuple(name for one in pruned for name in one.names),
            images=tuple(image for one in pruned for image in one.images),
            reclaimed=garbage + sum(one.reclaimed for one in pruned),
        )

    async def login(self, credentials: Credentials) -> str:
        """Try *credentials* at their server; returns an identity token or "" on success."""
        return await login(credentials)


def _with_shared_sizes(
    images: Sequence[ImageSummary], sizes: Mapping[str, int]
) -> tuple[ImageSummary, ...]:
    """Add how much of each image's size is of layers that others have too."""
    users = Counter(key for summary in images for key in set(summary.image.layers))
    return tuple(
        replace(
            summary,
            shared_size=sum(sizes.get(k, 0) for k in summary.image.layers if users[k] > 1),
        )
        for summary in images
    )


def _operating_system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"
