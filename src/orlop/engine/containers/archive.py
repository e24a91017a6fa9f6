"""Files of a container: cp, diff, export, size. All of it beneath the container's own root."""

import errno
import os
import posixpath
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, NamedTuple

from orlop.engine.answers import Change, ContainerSize, PathStat
from orlop.engine.containers.bundle import layer_keys
from orlop.engine.containers.kind import is_in_machine, refuse_in_machine
from orlop.engine.containers.room import bounded
from orlop.engine.containers.written import (
    open_whole_root,
    unless_removed,
    written,
    written_in_machine,
)
from orlop.engine.context import Context
from orlop.engine.joining import open_root as open_running_root
from orlop.engine.requests import PutOptions
from orlop.engine.streams import Inflow, Outflow, sent_by_client
from orlop.engine.threads import beside_client, in_thread
from orlop.engine.volume_sources import open_folder
from orlop.errors import (
    ExhaustedError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    WrongStateError,
)
from orlop.kernel.idmap import read_map
from orlop.layers import transfer
from orlop.model.container import Container, MountPoint
from orlop.runtime import users
from orlop.runtime.failure import StepError
from orlop.snapshots.view import open_root

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM)


class _Way(NamedTuple):
    root: int  # descriptor
    path: str  # in that root
    shown: str  # its name, where the path does not tell


class Archive:
    def __init__(self, context: Context) -> None:
        self._context = context

    @contextmanager
    def _root(self, container: Container, path: str, *, write: bool = False) -> Iterator[_Way]:
        """Open the root that *path* is in: the running container's, with all that is mounted.

        A stopped one has no mounts, so a path in a volume is looked for there.
        """
        refuse_in_machine(container, "cp")
        inside, shown = path, ""
        if container.running:
            with open_running_root(container) as root:
                fd = os.dup(root)
        elif mount := _mount_of(container, path):
            fd = open_folder(mount, self._context.settings.volumes)
            inside = _clean(path)[len(mount.target) :] + ("/." if path.endswith("/.") else "")
            shown = "" if inside else posixpath.basename(mount.target)
        else:
            with unless_removed(self._context, container):
                keys, only_read = layer_keys(container), not write
                driver, snapshot = self._context.snapshot_of(container)
                mounts = driver.mounts(snapshot, keys, readonly=only_read)
                fd = open_root([mount for mount in mounts if mount.target in ("", "/")])
        try:
            yield _Way(fd, inside or "/", shown)
        except NotFoundError as error:
            raise NotFoundError(
                f"Could not find the file {path[:300]} in container {container.name}"
            ) from error
        except OSError as error:
            kind = ExhaustedError if error.errno in _FULL else InvalidArgumentError
            raise kind(f"{path[:300]}: {error.strerror}") from error
        finally:
            os.close(fd)

    async def stat(self, container: Container, path: str) -> PathStat:
        def look() -> transfer.Place:
            with self._root(container, path) as way:
                return transfer.look(way.root, way.path, shown=way.shown)

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
            with self._root(container, path) as way:
                transfer.read(way.root, way.path, out, shown=way.shown, ids=_ids(container))

        return _stream(write)

    async def put(
        self, container: Container, path: str, source: AsyncIterator[bytes], options: PutOptions
    ) -> None:
        mount = _mount_of(container, path, with_tmpfs=container.running)
        if mount.read_only if mount else container.options.read_only:
            what = "mounted volume" if mount else "container rootfs"
            raise PermissionDeniedError(f"{what} is marked read-only")
        is_own = container.running and (mount is None or mount.type == "tmpfs")
        inflow = Inflow(source)

        def unpack() -> None:
            with self._root(container, path, write=True) as way:
                owner = _owner(way.root, container, options)
                keep = options.no_overwrite_dir_non_dir
                source = bounded(inflow, container, way.root, way.path) if is_own else inflow
                ids = _ids(container)
                transfer.write(way.root, way.path, source, owner=owner, ids=ids, keep_kinds=keep)

        with sent_by_client():
            await beside_client(unpack)

    async def export(self, container: Container) -> AsyncIterator[bytes]:
        """Return a tar of its root, without what is mounted in that."""
        refuse_in_machine(container, "export")
        return self._exported(container)

    async def _exported(self, container: Container) -> AsyncIterator[bytes]:
        def write(out: Any) -> None:
            root, runs = open_whole_root(self._context, container)
            try:
                transfer.read_all(root, out, ids=_ids(container) if runs else None)
            finally:
                os.close(root)

        with unless_removed(self._context, container):
            async with aclosing(_stream(write)) as pieces:  # the root is closed if nobody reads on
                async for piece in pieces:
                    yield piece

    async def changes(self, container: Container) -> list[Change]:
        async with written(self._context, container) as files:

            def look() -> list[Change]:
                return [Change(kind=c.kind, path=c.path) for c in files.changes()]

            return await in_thread(look)

    async def size(self, container: Container) -> ContainerSize:
        if is_in_machine(container):
            usage = written_in_machine(self._context, container)
        else:
            async with written(self._context, container) as files:
                usage = await in_thread(files.usage)
        layers = {layer.key: layer.size for layer in self._context.metadata.layers.list()}
        below = sum(layers.get(key, 0) for key in container.layers)
        return ContainerSize(writable=usage, total=usage + below)


def _stream(write: Callable[[Any], object]) -> AsyncGenerator[bytes]:
    return Outflow().stream(write)


def _clean(path: str) -> str:
    return posixpath.normpath("/" + path.lstrip("/"))


def _mount_of(container: Container, path: str, *, with_tmpfs: bool = False) -> MountPoint | None:
    """Return the volume or host folder that *path* is in, as far as its text tells."""
    clean = _clean(path)
    within = [
        mount
        for mount in container.mounts
        if (with_tmpfs or mount.type != "tmpfs") and f"{clean}/".startswith(f"{mount.target}/")
    ]
    return max(within, key=lambda mount: len(mount.target), default=None)


def _ids(container: Container) -> transfer.Ids | None:
    """Return the ids of its user namespace; a stopped one's files are seen without any."""
    if not container.running or container.options.userns in ("", "host"):
        return None
    try:
        maps = [read_map(container.pid, name) for name in ("uid_map", "gid_map")]
    except OSError as error:
        raise WrongStateError(f"container {container.name} has just ended") from error
    return transfer.Ids(*maps)


def _owner(root: int, container: Container, options: PutOptions) -> tuple[int, int] | None:
    """Return whose all is to be; None: whose the archive says."""
    if options.user is not None:
        try:
            identity = users.resolve(root, options.user or container.options.user)
        except StepError as error:
            raise InvalidArgumentError(str(error)) from error
        return identity.uid, identity.gid
    if not options.copy_uid_gid or not container.options.user:
        return None
    try:
        identity = users.resolve(root, container.options.user)
    except (OSError, StepError):
        return None
    return identity.uid, identity.gid
