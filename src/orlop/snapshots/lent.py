"""A container's writable layers that are not in a driver's folder, but given by descriptor.

The container is running, so the folders may contain anything and change meanwhile. They are
read like untrusted layers: no link is followed, and only folders and regular files are
opened.
"""

import functools
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from orlop.errors import NotFoundError
from orlop.layers.diff import Change, changes, in_upper, walk, without_mount_points
from orlop.layers.write import Output, TarWriter, export
from orlop.model.mount import Mount
from orlop.snapshots.unpacked import closing, opened
from orlop.snapshots.view import open_root

_BLOCK = 512


class Upper(NamedTuple):
    """The upper folder of the overlay at *target* in the root; "" is the root itself."""

    target: str
    fd: int


class Lent:
    """*lower* returns the mounts of the layers below, as Snapshots.mounts() with *readonly*.

    It is called once, when they are first needed. *mount_points* as of Snapshots.changes().
    """

    def __init__(
        self,
        lower: Callable[[], Sequence[Mount]],
        uppers: Sequence[Upper],
        mount_points: Collection[str] = (),
    ) -> None:
        self._mount_points = mount_points
        self._lower = functools.cache(lower)
        self._uppers = uppers

    def usage(self) -> int:
        """Return the bytes that the changes take; a file with several names counts once."""
        total = 0
        seen: set[int] = set()
        for upper in self._uppers:
            for _, status in walk(upper.fd):
                if stat.S_ISDIR(status.st_mode) or status.st_ino in seen:
                    continue
                if status.st_nlink > 1:
                    seen.add(status.st_ino)
                total += status.st_blocks * _BLOCK
        return total

    def changes(self) -> Iterator[Change]:
        """As Snapshots.changes()."""
        for upper in self._uppers:
            with self._below(upper) as lower:
                found = in_upper(upper.fd, lower, prefix=upper.target)
                yield from changes(without_mount_points(found, self._mount_points))

    def export_diff(self, out: Output) -> None:
        """As Snapshots.export_diff()."""
        writer = TarWriter(out)
        for upper in self._uppers:
            with self._below(upper) as lower:
                found = in_upper(upper.fd, lower, prefix=upper.target)
                found = without_mount_points(found, self._mount_points)
                export(found, upper.fd, writer, prefix=upper.target)
        writer.close()

    def _lower_root(self) -> Iterator[Mount]:
        return (mount for mount in self._lower() if mount.target in ("", "/"))

    @contextmanager
    def _below(self, upper: Upper) -> Iterator[int]:
        """Open the layers below one of the folders."""
        if not upper.target:
            with closing(open_root(list(self._lower_root()))) as fd:
                yield fd
            return
        for mount in self._lower():
            if mount.target.strip("/") == upper.target:
                with opened(mount.source) as fd:
                    yield fd
                return
        raise NotFoundError(f"nothing is known to be mounted on /{upper.target}")
