"""Containers: the use cases, in one place to call."""

import socket
from collections.abc import AsyncIterator, Sequence

from orlop.engine.answers import (
    Change,
    ContainerSize,
    Created,
    Finished,
    LogEntry,
    PathStat,
    Processes,
    Pruned,
)
from orlop.engine.requests import (
    NO_FILTERS,
    AttachRequest,
    Filters,
    LogRequest,
    PutOptions,
    UpdateRequest,
)
from orlop.model.container import Container, ContainerOptions
from orlop.runtime.cgroups.interface import Statistics


class Containers:
    """*ref* is a container's name, id, or a start of an id that only one has.

    Every method raises NotFoundError "No such container: …" where there is none.
    """

    async def create(self, options: ContainerOptions, *, name: str | None = None) -> Created:
        """Make a container. NotFoundError "No such image: …" where the image is not here."""
        raise NotImplementedError

    async def start(self, ref: str, *, detach_keys: str = "") -> bool:
        """Run its process; False where it runs already."""
        raise NotImplementedError

    async def stop(
        self, ref: str, *, timeout_s: int | None = None, signal: str | None = None
    ) -> bool:
        """Ask it to end, kill it after *timeout_s* (-1: never); False where it is stopped."""
        raise NotImplementedError

    async def kill(self, ref: str, *, signal: str = "SIGKILL") -> None:
        raise NotImplementedError

    async def restart(
        self, ref: str, *, timeout_s: int | None = None, signal: str | None = None
    ) -> None:
        raise NotImplementedError

    async def pause(self, ref: str) -> None:
        raise NotImplementedError

    async def unpause(self, ref: str) -> None:
        raise NotImplementedError

    async def rename(self, ref: str, name: str) -> None:
        raise NotImplementedError

    async def update(self, ref: str, request: UpdateRequest) -> Sequence[str]:
        """Change limits and restart policy; returns warnings."""
        raise NotImplementedError

    async def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove it; *force* kills it first, *volumes* takes its anonymous volumes along."""
        raise NotImplementedError

    async def prune(self, filters: Filters = NO_FILTERS) -> Pruned:
        raise NotImplementedError

    async def wait(self, ref: str, *, condition: str = "not-running") -> Finished:
        """Return when it is "not-running", at its "next-exit", or when it is "removed".

        Registered before the first suspension: what is started after this was called is seen.
        """
        raise NotImplementedError

    def get(self, ref: str) -> Container:
        raise NotImplementedError

    def list(
        self,
        *,
        all: bool = False,  # noqa: A002 - Docker's word
        filters: Filters = NO_FILTERS,
        limit: int = 0,
    ) -> Sequence[Container]:
        """Return containers, newest first."""
        raise NotImplementedError

    async def size(self, ref: str) -> ContainerSize:
        raise NotImplementedError

    async def attach(self, ref: str, client: socket.socket, request: AttachRequest) -> None:
        """Give the *client* socket to the container's streams; before or after its start.

        The socket belongs to the engine once this returns, and stays the caller's
        when it raises.
        """
        raise NotImplementedError

    async def resize(self, ref: str, *, height: int, width: int) -> None:
        raise NotImplementedError

    async def logs(self, ref: str, request: LogRequest) -> AsyncIterator[LogEntry]:
        raise NotImplementedError

    async def top(self, ref: str, *, ps_args: str = "-ef") -> Processes:
        raise NotImplementedError

    async def stats(self, ref: str) -> Statistics:
        """Return its counters now; WrongStateError unless it runs."""
        raise NotImplementedError

    async def changes(self, ref: str) -> Sequence[Change]:
        raise NotImplementedError

    async def export(self, ref: str) -> AsyncIterator[bytes]:
        """Return a tar of the whole root file system."""
        raise NotImplementedError

    async def archive_stat(self, ref: str, path: str) -> PathStat:
        raise NotImplementedError

    async def archive_get(self, ref: str, path: str) -> tuple[PathStat, AsyncIterator[bytes]]:
        """Return what is at *path* as a tar."""
        raise NotImplementedError

    async def archive_put(
        self, ref: str, path: str, source: AsyncIterator[bytes], options: PutOptions
    ) -> None:
        """Unpack a tar into the folder *path* of the container."""
        raise NotImplementedError
