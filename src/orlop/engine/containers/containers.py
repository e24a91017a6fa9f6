"""Containers: the use cases, in one place to call."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress

from orlop.engine.answers import (
    Change,
    ContainerSize,
    Created,
    Finished,
    ImageRecord,
    LogEntry,
    PathStat,
    Processes,
    Pruned,
)
from orlop.engine.containers.archive import Archive
from orlop.engine.containers.bundle import Bundles
from orlop.engine.containers.change import Changes
from orlop.engine.containers.create import Creation
from orlop.engine.containers.kind import kind_of
from orlop.engine.containers.lifecycle import Lifecycle, parse_signal
from orlop.engine.containers.listing import Listing
from orlop.engine.containers.processes import Inside
from orlop.engine.containers.removal import Removal
from orlop.engine.containers.streams import Streams
from orlop.engine.context import Context
from orlop.engine.execs.execs import Execs
from orlop.engine.filters import label_matches, refuse_unknown
from orlop.engine.images.images import Images
from orlop.engine.networks import links
from orlop.engine.requests import (
    NO_FILTERS,
    AttachRequest,
    Filters,
    LogRequest,
    PutOptions,
    UpdateRequest,
)
from orlop.engine.settled import settled, started
from orlop.engine.volumes import Volumes
from orlop.engine.when import parse_until
from orlop.errors import NotFoundError, OrlopError, WrongStateError
from orlop.model.container import Container, ContainerOptions, Status
from orlop.runtime.cgroups.interface import Statistics

_SIGKILL = 9
_KILL_WAIT_S = 10


class Containers:
    """*ref* is a container's name, id, or a start of an id that only one has.

    Every method raises NotFoundError "No such container: …" where there is none.
    """

    def __init__(
        self,
        context: Context,
        *,
        bundles: Bundles,
        images: Images,
        volumes: Volumes,
        execs: Execs,
        lifecycle: Lifecycle,
    ) -> None:
        self._context = context
        self._bundles = bundles
        self._execs = execs
        self._lifecycle = lifecycle
        self._creation = Creation(
            context, bundles=bundles, images=images, volumes=volumes, networks=lifecycle.networks
        )
        self._removal = Removal(context, bundles=bundles, volumes=volumes)
        self._changes = Changes(context, bundles=bundles, lifecycle=lifecycle)
        self._listing = Listing(context, images)
        self._streams = Streams(context)
        self._archive = Archive(context)
        self._inside = Inside(context)

    async def create(
        self,
        options: ContainerOptions,
        *,
        name: str | None = None,
        image: ImageRecord | None = None,
    ) -> Created:
        """Make a container. NotFoundError "No such image: …" where the image is not here.

        An *image*, whose layers are ready to be mounted, is used in place of the one that the
        options name.
        """
        return await self._creation.create(options, name, image=image)

    async def add(self, container: Container) -> None:
        """Make a container whose config.json and root its client has made."""
        await self._creation.add(container)

    async def prepare(self, options: ContainerOptions, undo: ExitStack) -> Container:
        """Make what containers with these *options* need; see Creation.prepare."""
        return await self._creation.prepare(options, undo)

    async def start(self, ref: str, *, detach_keys: str = "", images: int | None = None) -> bool:
        """Run its process; False where it runs already.

        With *images*, an open folder of another's, it goes on where that was.
        """
        container = await self.settled(ref)
        del detach_keys  # those of an attached client count
        try:
            return await self._lifecycle.start(container.id, images=images)
        except OrlopError:
            await self._clear_up(container.id)
            raise

    async def stop(
        self, ref: str, *, timeout_s: int | None = None, signal: str | None = None
    ) -> bool:
        """Ask it to end, kill it after *timeout_s* (-1: never); False where it is stopped."""
        number = parse_signal(signal) if signal else None
        container_id = (await started(self._context, self.get(ref))).id
        stopped = await self._lifecycle.stop(container_id, timeout_s=timeout_s, signal=number)
        if stopped and self._context.records.has(container_id):
            self._context.announce(self.get(container_id), "stop")
        return stopped

    async def kill(self, ref: str, *, signal: str = "SIGKILL") -> None:
        number = parse_signal(signal)
        container = await started(self._context, self.get(ref))
        await self._lifecycle.kill(container.id, number)

    async def restart(
        self, ref: str, *, timeout_s: int | None = None, signal: str | None = None
    ) -> None:
        """Stop it and start it again. Auto-remove waits for an end that nobody starts again."""
        container = self.get(ref)
        live = self._context.live(container.id)
        live.restarts += 1
        try:
            await self.stop(container.id, timeout_s=timeout_s, signal=signal)
        finally:
            live.restarts -= 1
        await self.start(container.id)
        self._context.announce(self.get(container.id), "restart")

    async def pause(self, ref: str) -> None:
        await self._lifecycle.pause(self.get(ref).id)

    async def unpause(self, ref: str) -> None:
        await self._lifecycle.unpause(self.get(ref).id)

    async def rename(self, ref: str, name: str) -> None:
        await self._changes.rename(self.get(ref).id, name)

    async def update(self, ref: str, request: UpdateRequest) -> Sequence[str]:
        """Change limits and restart policy; returns warnings."""
        return await self._changes.update(self.get(ref).id, request)

    async def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove it; *force* kills it first, *volumes* takes its anonymous volumes along."""
        container = await self.settled(ref)
        if force and (container.running or container.status == Status.RESTARTING):
            live = self._context.live(container.id)
            live.stopping = True
            await self._lifecycle.stop(container.id, timeout_s=_KILL_WAIT_S, signal=_SIGKILL)
        with suppress(NotFoundError) if container.options.auto_remove else nullcontext():
            await self._removal.remove(container.id, volumes=volumes)
        self._execs.forget_container(container.id)

    async def unlink(self, ref: str) -> None:
        """Remove the link *ref*: CONTAINER/ALIAS, of the container that uses it."""
        name, _, alias = ref.removeprefix("/").rpartition("/")
        if not name:
            raise WrongStateError("Conflict, cannot remove the default link name of the container")
        await self._changes.unlink(self.get(name).id, alias)

    async def prune(self, filters: Filters = NO_FILTERS) -> Pruned:
        refuse_unknown(filters, {"until", "label", "label!"})
        until = parse_until(filters)
        names, reclaimed = [], 0
        for container in self._context.records.all():
            old = not until or container.created_ns < until
            if container.running or container.status == Status.RESTARTING or not old:
                continue
            if not label_matches(container.options.labels, filters):
                continue
            with suppress(OrlopError):
                size = await self._archive.size(container)
                await self.remove(container.id)
                names.append(container.id)
                reclaimed += size.writable
        return Pruned(names=tuple(names), reclaimed=reclaimed)

    async def wait(self, ref: str, *, condition: str = "not-running") -> Finished:
        """Return when it is "not-running", at its "next-exit", or when it is "removed".

        Registered before the first suspension: what is started after this was called is seen.
        """
        container = self.get(ref)
        live = self._context.live(container.id)
        over = not container.running and container.status != Status.RESTARTING
        if condition == "not-running" and over:
            return Finished(exit_code=container.exit_code, error=container.error)
        future: asyncio.Future[Finished] = asyncio.get_running_loop().create_future()
        waiting = live.removals if condition == "removed" else live.exits
        waiting.append(future)
        try:
            return await future
        finally:
            if future in waiting:
                waiting.remove(future)

    def get(self, ref: str) -> Container:
        return self._context.records.find(ref)

    async def settled(self, ref: str) -> Container:
        """As get(), but of a container that has just begun or ended wait for the record of that."""
        return await settled(self._context, self.get(ref))

    def files(self, container: Container) -> Mapping[str, str]:
        """Return the host's paths of the files that the engine makes for it, by their paths in it.

        Empty for a container started by a recipe.
        """
        return self._bundles.files(container) if kind_of(container).has_shared_files else {}

    def linked(self, container: Container) -> "Sequence[tuple[str, str]]":
        """Return the names and aliases of the containers that it is linked to by default."""
        return [
            (self._context.records.find(ref).name if self._context.records.has(ref) else ref, alias)
            for alias, ref in map(links.parse, links.wanted(container.options))
        ]

    def list(
        self,
        *,
        all: bool = False,  # noqa: A002 - Docker's word
        filters: Filters = NO_FILTERS,
        limit: int = 0,
    ) -> Sequence[Container]:
        """Return containers, newest first."""
        return self._listing.list(filters, everything=all, limit=limit)

    async def size(self, ref: str) -> ContainerSize:
        return await self._archive.size(self.get(ref))

    async def sizes(
        self, containers: Sequence[Container]
    ) -> Sequence[tuple[Container, ContainerSize]]:
        """Return them with their sizes, but those that go meanwhile."""
        found = []
        for container in containers:
            with suppress(NotFoundError, WrongStateError):
                found.append((container, await self.size(container.id)))
        return found

    async def attach(self, ref: str, client: socket.socket, request: AttachRequest) -> None:
        """Give the *client* socket to the container's streams; before or after its start.

        The socket belongs to the engine once this returns, and stays the caller's
        when it raises.
        """
        container = self.get(ref)
        await self._streams.attach(container, client, request)
        self._context.announce(container, "attach")

    async def resize(self, ref: str, *, height: int, width: int) -> None:
        container = await started(self._context, self.get(ref))
        await self._streams.resize(container, height=height, width=width)

    async def reopen_log(self, ref: str) -> None:
        """Go on with its log in a new file, because somebody has moved it away."""
        container = await started(self._context, self.get(ref))
        await self._context.stdio.request({"op": "reopen_log", "key": container.id})

    async def use_fifos(self, ref: str, fds: Mapping[str, int], *, exec_id: str = "") -> None:
        """Copy streams from and to named pipes, by the streams' names, at the next start.

        The streams are the container's, or those of a further process. The descriptors stay the
        caller's.
        """
        await self._streams.use_fifos(_key(self.get(ref).id, exec_id), fds)

    async def drop_fifos(self, ref: str, exec_id: str) -> None:
        """Close the named pipes of a further process that will not start."""
        await self._streams.drop_fifos(_key(ref, exec_id))

    async def close_stdin(self, ref: str) -> None:
        """End its input."""
        container = await started(self._context, self.get(ref))
        await self._context.shim.request({"op": "close_stdin", "id": container.id})

    async def logs(self, ref: str, request: LogRequest) -> AsyncIterator[Sequence[LogEntry]]:
        """Return what is logged, many entries at a time; with *follow* also what comes."""
        return self._streams.logs(self.get(ref), request)

    async def top(self, ref: str, *, ps_args: str = "-ef") -> Processes:
        container = await self.settled(ref)
        processes = await self._inside.top(container, ps_args)
        self._context.announce(container, "top")
        return processes

    async def stats(self, ref: str) -> Statistics:
        """Return its counters now; WrongStateError unless it runs."""
        return await self._inside.stats(await self.settled(ref))

    async def usage(self, ref: str) -> Sequence[int]:
        """Return what all that has run in it has used: numbers as in shim/usage.py."""
        return await self._inside.usage(await self.settled(ref))

    async def changes(self, ref: str) -> Sequence[Change]:
        return await self._archive.changes(self.get(ref))

    async def export(self, ref: str) -> AsyncIterator[bytes]:
        """Return a tar of the whole root file system."""
        container = self.get(ref)
        exported = await self._archive.export(container)
        self._context.announce(container, "export")
        return exported

    async def archive_stat(self, ref: str, path: str) -> PathStat:
        return await self._archive.stat(self.get(ref), path)

    async def archive_get(self, ref: str, path: str) -> tuple[PathStat, AsyncIterator[bytes]]:
        """Return what is at *path* as a tar."""
        container = self.get(ref)
        found = await self._archive.stat(container, path)
        return found, await self._archive.get(container, path)

    async def archive_put(
        self, ref: str, path: str, source: AsyncIterator[bytes], options: PutOptions
    ) -> None:
        """Unpack a tar into the folder *path* of the container."""
        await self._archive.put(self.get(ref), path, source, options)

    async def _clear_up(self, container_id: str) -> None:
        """Remove a container that could not be started, if it was to be removed at its end."""
        if self._context.records.get(container_id).options.auto_remove:
            with suppress(OrlopError):
                await self._removal.remove(container_id, volumes=True)


def _key(container_id: str, exec_id: str) -> str:
    """Return what the stdio process calls the process."""
    return f"{container_id}/{exec_id}" if exec_id else container_id
