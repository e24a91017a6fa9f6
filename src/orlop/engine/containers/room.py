"""How much may be written from outside into what a container has in memory.

The kernel charges such pages to who writes them, the engine, and not to the container's
cgroup: what it would refuse there is refused here.
"""

import os
from collections.abc import Callable

from orlop.engine.containers.cgroup import cgroup_of
from orlop.engine.containers.kind import kind_of
from orlop.errors import ExhaustedError
from orlop.kernel.paths import FileSystem, file_system_type, open_in_root
from orlop.layers.tar import Stream
from orlop.model.container import Container

_STEP_BYTES = 1 << 20
_INODE_BYTES = 1024


class Bounded:
    """A stream that is read only as far as there is room for what is made of it.

    *room* counts what is there, in bytes; it is asked anew for each MiB. What replaces a
    larger file fits where that was; all of the stream together is *most* bytes.
    """

    def __init__(self, source: Stream, room: Callable[[], int], *, most: int) -> None:
        self._source = source
        self._room = room
        self._most = self._left = most
        self._unasked = 0

    def read(self, size: int = -1, /) -> bytes:
        """Return up to *size* bytes; ExhaustedError if there is no room for them."""
        data = self._source.read(size)
        self._left -= len(data)
        self._unasked -= len(data)
        if self._unasked < 0:
            room = min(self._room() - len(data), self._left)
            if room < 0:
                raise ExhaustedError(
                    f"no memory left for what is written: {self._most >> 20} MiB in all are allowed"
                )
            self._unasked = min(room, _STEP_BYTES)
        return data


def bounded(source: Stream, container: Container, root: int, path: str) -> Stream:
    """Return *source*, to be unpacked at *path*, bounded by the container's limit if it has one."""
    most = container.options.resources.memory_bytes
    if not most or not _in_memory(container, root, path):
        return source

    def room() -> int:
        return most - _used_bytes(container) - _files_bytes(root, path)

    return Bounded(source, room, most=most)


def _in_memory(container: Container, root: int, path: str) -> bool:
    try:
        fd = open_in_root(root, path)
    except OSError:  # as who unpacks there will say
        return False
    try:
        kind = file_system_type(fd)
    finally:
        os.close(fd)
    return kind == FileSystem.TMPFS or (
        kind == FileSystem.OVERLAY and not kind_of(container).has_snapshot
    )


def _used_bytes(container: Container) -> int:
    """Return what its processes take; caches, and files in memory, are not counted."""
    memory = cgroup_of(container).statistics().memory
    cached = memory.stat.get("total_cache", memory.stat.get("file", 0))
    return max(0, memory.usage_bytes - cached)


def _files_bytes(root: int, path: str) -> int:
    fd = open_in_root(root, path)
    try:
        status = os.fstatvfs(fd)
    finally:
        os.close(fd)
    files = status.f_files - status.f_ffree
    return (status.f_blocks - status.f_bfree) * status.f_frsize + files * _INODE_BYTES
