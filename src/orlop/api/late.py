"""A listening socket that loads its program when the first client connects.

So an engine without gRPC clients neither imports gRPC's libraries nor keeps them in memory.
"""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Protocol

from orlop.engine.threads import in_thread
from orlop.errors import UnavailableError

log = logging.getLogger(__name__)

_MODE = 0o660
_BACKLOG = 512


class Program(Protocol):
    """What answers a socket's clients."""

    @property
    def changes(self) -> Collection[asyncio.Future[Any]]:
        """Calls that continue after their client has gone."""

    def connection(self) -> asyncio.BaseProtocol:
        """Return the protocol of a new connection."""

    async def close(self) -> None:
        """End all connections."""


def bound(path: Path, kind: socket.SocketKind) -> socket.socket:
    """Return a socket bound to *path*, for root and its group; replace what is there."""
    listener = socket.socket(socket.AF_UNIX, kind)
    listener.setblocking(False)  # noqa: FBT003 - has no keyword
    path.unlink(missing_ok=True)
    before = os.umask(0o777 & ~_MODE)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise UnavailableError(f"cannot listen on {path}: {error.strerror or error}") from error
    finally:
        os.umask(before)
    return listener


class LateServer:
    """Listens at *path*; *load* is called in a thread, for the first client."""

    def __init__(self, path: Path, load: Callable[[], Program]) -> None:
        self._path = path
        self._load = load
        self._program: Program | None = None
        self._server: asyncio.Server | None = None
        self._loading: asyncio.Task[None] | None = None
        self._listener = bound(path, socket.SOCK_STREAM)
        self._listener.listen(_BACKLOG)
        asyncio.get_running_loop().add_reader(self._listener, self._wake)

    @property
    def changes(self) -> Collection[asyncio.Future[Any]]:
        """Calls that continue after their client has gone."""
        return () if self._program is None else self._program.changes

    def _wake(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listener)
        self._loading = loop.create_task(self._begin())

    async def _begin(self) -> None:
        try:
            self._program = await in_thread(self._load)
        except Exception:
            log.exception("a socket's program cannot be loaded", extra={"socket": self._path})
            self._listener.close()  # clients see an error, and do not wait for an answer
            return
        loop, factory = asyncio.get_running_loop(), self._program.connection
        if sys.version_info >= (3, 13):  # close() removes the socket, on every Python
            self._server = await loop.create_unix_server(
                factory, sock=self._listener, backlog=_BACKLOG, cleanup_socket=False
            )
        else:
            self._server = await loop.create_unix_server(
                factory, sock=self._listener, backlog=_BACKLOG
            )

    async def close(self) -> None:
        """Accept no more clients, and end the connections."""
        self._path.unlink(missing_ok=True)
        if self._loading is not None:
            await self._loading
        elif self._listener.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._listener)
        if self._server is not None:
            self._server.close()
        self._listener.close()
        if self._program is not None:
            await self._program.close()
