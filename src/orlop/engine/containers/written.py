"""What a container has written: in a snapshot, or of a sandbox by a recipe in the shim's memory."""

import os
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from orlop.engine.containers.bundle import layer_keys
from orlop.engine.context import Context
from orlop.engine.images.host import HOST, host_base
from orlop.engine.threads import in_thread
from orlop.layers.diff import Change
from orlop.layers.write import Output
from orlop.model.container import Container
from orlop.snapshots.lent import Lent, Upper
from orlop.snapshots.view import open_root

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Written(Protocol):
    """See Snapshots, of which these are the methods with the snapshot known. They block."""

    def usage(self) -> int: ...

    def changes(self) -> Iterator[Change]: ...

    def export_diff(self, out: Output) -> None: ...

    def open_root(self) -> int:
        """Return the whole root, read-only, without what is mounted in it."""


class _Snapshot:
    """Written to a snapshot of its own."""

    def __init__(self, context: Context, container: Container) -> None:
        self._snapshots = context.snapshots
        self._id = container.id
        self._keys = layer_keys(container)

    def usage(self) -> int:
        return self._snapshots.usage(self._id)

    def changes(self) -> Iterator[Change]:
        return self._snapshots.changes(self._id, self._keys)

    def export_diff(self, out: Output) -> None:
        self._snapshots.export_diff(self._id, self._keys, out)

    def open_root(self) -> int:
        mounts = self._snapshots.mounts(self._id, self._keys, readonly=True)
        return open_root([mount for mount in mounts if mount.target in ("", "/")])


@asynccontextmanager
async def written(context: Context, container: Container) -> AsyncIterator[Written]:
    """Give what *container* has written, while inside. WrongStateError for one just ended."""
    if not container.recipe:
        yield _Snapshot(context, container)
        return
    uppers = await lent(context, container.id)
    name = f"look-{secrets.token_hex(8)}"  # of a snapshot that tells how the layers are mounted
    try:
        yield await in_thread(_over_layers, context, container, name, uppers)
    finally:
        give_back(uppers)
        context.snapshots.remove(name)
        context.sweep_soon()


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


def _over_layers(
    context: Context, container: Container, name: str, uppers: Sequence[Upper]
) -> Lent:
    keys = layer_keys(container)
    base = host_base() if container.image == HOST else ()
    context.snapshots.prepare(name, keys, base=base)
    return Lent(context.snapshots.mounts(name, keys, readonly=True), uppers)


def give_back(uppers: Sequence[Upper]) -> None:
    """Close what was lent."""
    for upper in uppers:
        os.close(upper.fd)
