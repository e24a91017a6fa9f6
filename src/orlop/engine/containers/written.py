"""What a container has written: in a snapshot, or of a sandbox by a recipe in the shim's memory."""

import os
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol

from orlop.engine.containers.bundle import layer_keys
from orlop.engine.containers.kind import kind_of, refuse_in_machine
from orlop.engine.context import Context
from orlop.engine.images.host import HOST, host_base
from orlop.engine.joining import open_namespace
from orlop.errors import OrlopError, WrongStateError
from orlop.layers.diff import Change
from orlop.layers.write import Output
from orlop.model.container import Container, Status
from orlop.model.mount import Mount
from orlop.snapshots.lent import Lent, Upper
from orlop.snapshots.view import open_mounted_root, open_root

#: The disk of what a container in a virtual machine writes, in its folder.
WRITES = "writes.ext4"
_BLOCK = 512
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


#: Made by the runtime where an image has nothing to mount on.
_MOUNT_POINTS = frozenset(
    ["/dev", "/proc", "/sys", "/sbin/docker-init"]
    + [f"/dev/{name}" for name in ("console", "mqueue", "pts", "shm")]
    + [f"/etc/{name}" for name in ("hostname", "hosts", "resolv.conf")]
)


class Written(Protocol):
    """See Snapshots, of which these are the methods with the snapshot known. They block."""

    def usage(self) -> int: ...

    def changes(self) -> Iterator[Change]: ...

    def export_diff(self, out: Output) -> None: ...


class _Snapshot:
    """Written to a snapshot of its own."""

    def __init__(self, context: Context, container: Container) -> None:
        self._snapshots, self._id = context.snapshot_of(container)
        self._keys = layer_keys(container)
        self._mount_points = mount_points_of(container)

    def usage(self) -> int:
        return self._snapshots.usage(self._id)

    def changes(self) -> Iterator[Change]:
        return self._snapshots.changes(self._id, self._keys, mount_points=self._mount_points)

    def export_diff(self, out: Output) -> None:
        self._snapshots.export_diff(self._id, self._keys, out, mount_points=self._mount_points)


@asynccontextmanager
async def written(context: Context, container: Container) -> AsyncIterator[Written]:
    """Give what *container* has written, while inside. WrongStateError for one just ended.

    NotFoundError where the container is removed meanwhile.
    """
    refuse_in_machine(container, "diff and commit")
    if kind_of(container).has_snapshot:
        with unless_removed(context, container):
            yield _Snapshot(context, container)
        return
    uppers = await lent(context, container.id)
    name = f"look-{secrets.token_hex(8)}"
    try:
        points = mount_points_of(container)
        yield Lent(lambda: _below(context, container, name), uppers, points)
    finally:
        give_back(uppers)
        context.snapshots.remove(name)
        context.sweep_soon()


def written_in_machine(context: Context, container: Container) -> int:
    """Return the bytes that the disk of a container in a virtual machine takes on this host."""
    path = context.settings.containers / container.id / WRITES
    try:
        return path.stat().st_blocks * _BLOCK
    except FileNotFoundError:  # it was never started
        return 0


def mount_points_of(container: Container) -> set[str]:
    """Return where something is mounted in the container; made there if its image lacks it."""
    return {*_MOUNT_POINTS, *(mount.target for mount in container.mounts)}


def open_whole_root(context: Context, container: Container) -> tuple[int, bool]:
    """Return the container's root with its layers, without what is mounted in it. It blocks.

    Also returns whether this is the mount of a running container. It is if there is one,
    because overlayfs does not define what a second mount of an upper folder shows.
    """
    try:
        with open_namespace(container, "mnt") as namespace:
            return open_mounted_root(namespace), True
    except WrongStateError:  # it does not run
        if not kind_of(container).has_snapshot:
            raise
    driver, snapshot = context.snapshot_of(container)
    mounts = driver.mounts(snapshot, layer_keys(container), readonly=True)
    return open_root([mount for mount in mounts if mount.target in ("", "/")]), False


@contextmanager
def unless_removed(context: Context, container: Container) -> Iterator[None]:
    """Say of what fails within because the container is removed meanwhile that it is."""
    try:
        yield
    except (OSError, OrlopError):
        if context.records.get(container.id).status in (Status.REMOVING, Status.DEAD):
            raise WrongStateError(f"container {container.name} is marked for removal") from None
        raise


def _below(context: Context, container: Container, name: str) -> Sequence[Mount]:
    """Return how the container's layers are mounted, as a snapshot *name* of them tells."""
    keys = layer_keys(container)
    base = host_base() if container.image == HOST else ()
    context.snapshots.prepare(name, keys, base=base)
    return context.snapshots.mounts(name, keys, readonly=True)


async def lent(context: Context, container_id: str) -> list[Upper]:
    """Have the shim lend the folders that a sandbox writes to; give_back() is the caller's."""
    answer = await context.shim.request({"op": "lend", "id": container_id})
    return _opened(answer["fds"][0], answer["overlays"])


def _opened(root: int, overlays: list[str]) -> list[Upper]:
    uppers: list[Upper] = []
    try:
        for number, destination in enumerate(overlays):
            fd = os.open(f"upper-{number}", _FOLDER, dir_fd=root)
            uppers.append(Upper(destination.strip("/"), fd))
    except BaseException:
        give_back(uppers)
        raise
    finally:
        os.close(root)
    return uppers


def give_back(uppers: Sequence[Upper]) -> None:
    """Close what was lent."""
    for upper in uppers:
        os.close(upper.fd)
