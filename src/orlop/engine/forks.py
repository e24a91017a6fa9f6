"""Forks: sandboxes with copies of another's files, as all of them were at one moment."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, nullcontext, suppress

from msgspec.structs import replace

from orlop.engine import fork_images
from orlop.engine.containers.cgroup import cgroup_of, running_cgroup
from orlop.engine.containers.containers import Containers
from orlop.engine.containers.kind import kind_of, refuse_in_machine
from orlop.engine.context import Context
from orlop.engine.owners import Owners, Terms, owned
from orlop.engine.threads import in_thread
from orlop.errors import NotRunningError, OrlopError, UnsupportedError
from orlop.model.container import Container, ContainerOptions, Status

_AT_ONCE = 2 * (os.cpu_count() or 1)


class Forks:
    def __init__(self, context: Context, containers: Containers, owners: Owners) -> None:
        self._context = context
        self._containers = containers
        self._owners = owners
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def fork(
        self, ref: str, options: ContainerOptions, terms: Terms, *, count: int, processes: bool
    ) -> list[str]:
        """Make and start *count* containers of *options* with the files of *ref*; return their ids.

        All or, where one cannot be made, none. They are to be held as Owners.open() says.
        With *processes* they do not begin, but go on where *ref* is: see fork_images.
        """
        source = self._containers.get(ref)
        refuse_in_machine(source, "forks")
        if not kind_of(source).has_snapshot:
            raise UnsupportedError(
                f"sandbox {source.name} has its files in memory", hint="fork it by `import orlop`"
            )
        options = replace(owned(options, terms._replace(keep=False)), image=source.image)
        with fork_images.folder() if processes else nullcontext() as images:
            made = await self._fork(source, options, images, count=count)
        if terms.keep:  # only now: what an engine before us has not finished is nobody's
            self._keep(made)
        self._owners.begun(made)
        return made

    def _keep(self, made: Iterable[str]) -> None:
        for container_id in made:
            if self._context.records.has(container_id):  # else it has ended
                fork = self._context.records.get(container_id)
                options = replace(fork.options, owner="", auto_remove=False)
                self._context.records.save(replace(fork, options=options))

    async def _fork(
        self, source: Container, options: ContainerOptions, images: int | None, *, count: int
    ) -> list[str]:
        made: list[str] = []
        try:
            for _ in range(count):
                made.append((await self._containers.create(options)).id)
            still = self.still(source) if images is None else self._dumped(source, images, count)
            async with still:
                for container_id in made:
                    await in_thread(self._context.snapshots.copy, container_id, source.id)
            async with asyncio.TaskGroup() as starting:
                for container_id in made:
                    starting.create_task(self._start(container_id, images))
        except BaseException as error:
            for container_id in made:
                with suppress(OrlopError):
                    await self._containers.remove(container_id, force=True, volumes=True)
            if isinstance(error, BaseExceptionGroup):
                raise error.exceptions[0] from None
            raise
        return made

    async def _start(self, container_id: str, images: int | None) -> None:
        async with self._turns:
            await self._containers.start(container_id, images=images)

    @asynccontextmanager
    async def still(self, source: Container) -> AsyncIterator[None]:
        """Keep what runs in *source*, and who pauses or ends it, from going on while inside.

        It is not recorded as paused: commands that are asked for meanwhile only wait.
        """
        async with self._kept(source) as source:
            if source.status == Status.PAUSED:
                yield
                return
            cgroup = cgroup_of(source)
            try:
                with running_cgroup(source):
                    await in_thread(cgroup.freeze)
                yield
            finally:
                if self._context.records.has(source.id):  # else the cgroup may be another's
                    with suppress(FileNotFoundError):  # it has ended
                        await in_thread(cgroup.thaw)

    @asynccontextmanager
    async def _kept(self, source: Container) -> AsyncIterator[Container]:
        """Keep commands, and who pauses or ends it, out of *source*; give it as it is now."""
        live = self._context.live(source.id)
        async with live.lock, live.gate.closed():
            source = self._context.records.get(source.id)
            if not source.running:
                raise NotRunningError(f"container {source.name} is not running")
            yield source

    @asynccontextmanager
    async def _dumped(self, source: Container, images: int, copies: int) -> AsyncIterator[None]:
        async with (
            self._kept(source),
            fork_images.dumped(self._context, source, images, copies=copies),
        ):
            yield

    async def resume(self) -> None:
        """Let go on what an engine before us held still when it died."""
        for container in self._context.records.all():
            if container.status == Status.RUNNING:
                with suppress(OSError):
                    await in_thread(cgroup_of(container).thaw)
