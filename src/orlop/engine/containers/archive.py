"""Files of a container: cp, diff, export, size. All of it beneath the container's own root."""

import os
import posixpath
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from orlop.engine.answers import Change, ContainerSize, PathStat
from orlop.engine.containers.bundle import layer_keys
from orlop.engine.context import Context
from orlop.engine.requests import PutOptions
from orlop.engine.streams import Inflow, Outflow
from orlop.engine.threads import in_thread
from orlop.errors import OrlopError, WrongStateError
from orlop.layers import transfer
from orlop.model.container import Container
from orlop.runtime import users
from orlop.snapshots.view import open_root

#: Made by the runtime where an image has nothing to mount on.
_MOUNT_POINTS = frozenset(
    ["/dev", "/proc", "/sys", "/sbin/docker-init"]
    + [f"/dev/{name}" for name in ("console", "mqueue", "pts", "shm")]
    + [f"/etc/{name}" for name in ("hostname", "hosts", "resolv.conf")]
)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Archive:
    def __init__(self, context: Context) -> None:
        self._context = context

    @contextmanager
    def _root(self, container: Container) -> Iterator[int]:
        """Open the container's root: of the running one, with all that is mounted in it."""
        if container.running:
            try:
                fd = os.open(f"/proc/{container.pid}/root", _FOLDER)
            except OSError as error:
                raise WrongStateError(f"container {container.name} has just ended") from error
        else:
            mounts = self._context.snapshots.mounts(container.id, layer_keys(container))
            fd = open_root([mount for mount in mounts if mount.target in ("", "/")])
        try:
            yield fd
        finally:
            os.close(fd)

    async def stat(self, container: Container, path: str) -> PathStat:
        def look() -> transfer.Place:
            with self._root(container) as root:
                return transfer.look(root, path)

        place = await in_thread(look)
        return PathStat(
            name=place.name,
            size=place.status.st_size,
            mode=place.status.st_mode,
            mtime_ns=place.status.st_mtime_ns,
            link_target=place.link,
        )

    async def get(self, container: Container, path: str) -> AsyncIterator[bytes]:
        def write(out: Any) -> None:
            with self._root(container) as root:
                transfer.read(root, path, out)

        return _stream(write)

    async def put(
        self, container: Container, path: str, source: AsyncIterator[bytes], options: PutOptions
    ) -> None:
        if container.options.read_only and not container.mounts:
            raise WrongStateError("container rootfs is marked read-only")
        inflow = Inflow(source)

        def unpack() -> None:
            with self._root(container) as root:
                owner = _owner(root, container) if options.copy_uid_gid else None
                keep = options.no_overwrite_dir_non_dir
                transfer.write(root, path, inflow, owner=owner, keep_kinds=keep)

        await in_thread(unpack)

    async def export(self, container: Container) -> AsyncIterator[bytes]:
        def write(out: Any) -> None:
            mounts = self._context.snapshots.mounts(
                container.id, layer_keys(container), readonly=True
            )
            root = open_root([mount for mount in mounts if mount.target in ("", "/")])
            try:
                transfer.read_all(root, out)
            finally:
                os.close(root)

        return _stream(write)

    async def changes(self, container: Container) -> list[Change]:
        snapshots, keys = self._context.snapshots, layer_keys(container)

        def look() -> list[Change]:
            return [Change(kind=c.kind, path=c.path) for c in snapshots.changes(container.id, keys)]

        return without_mount_points(await in_thread(look), container)

    async def size(self, container: Container) -> ContainerSize:
        writable = await in_thread(self._context.snapshots.usage, container.id)
        layers = {layer.key: layer.size for layer in self._context.metadata.layers.list()}
        below = sum(layers.get(key, 0) for key in container.layers)
        return ContainerSize(writable=writable, total=writable + below)


def _stream(write: Callable[[Any], object]) -> AsyncIterator[bytes]:
    return Outflow().stream(write)


def _owner(root: int, container: Container) -> tuple[int, int] | None:
    if not container.options.user:
        return None
    try:
        identity = users.resolve(root, container.options.user)
    except (OSError, OrlopError):
        return None
    return identity.uid, identity.gid


def without_mount_points(changes: list[Change], container: Container) -> list[Change]:
    """Leave out what only had to be there to be mounted on, and folders that changed just so."""
    targets = {*_MOUNT_POINTS, *(mount.target for mount in container.mounts)}
    ours = {change.path for change in changes if change.kind == "A" and change.path in targets}
    real = {change.path for change in changes if change.kind != "C"} - ours
    touched = {posixpath.dirname(path) for path in ours}
    needed = {posixpath.dirname(path) for path in real}
    idle = {
        change.path
        for change in changes
        if change.kind == "C" and change.path in touched and change.path not in needed
    }
    return [change for change in changes if change.path not in ours | idle]
