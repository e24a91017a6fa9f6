"""What a start by a recipe writes to: a tmpfs of its own, with a folder for each overlay."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from orlop.kernel.mount import MountAttr
from orlop.runtime.filesystems import filesystem
from orlop.runtime.options import Options

if TYPE_CHECKING:
    from orlop.runtime.recipe.recipe import Layer

_DEFAULT_BYTES = 1 << 30
#: An inode takes a kilobyte of memory that does not count as the file system's size.
_BYTES_PER_INODE, _LEAST_INODES = 4096, 1024
_ATTRIBUTES = int(MountAttr.NODEV)
_PATH = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Looks(NamedTuple):
    """Of a folder that takes what is written, as a Layer tells it."""

    mode: int = 0o755
    uid: int = 0
    gid: int = 0


class Writable:
    """*fd* is a detached mount: what is written is gone when it and the container are."""

    def __init__(self, fd: int, *, overlays: int) -> None:
        """Take over *fd*, which make() of somebody has made for so many."""
        self.fd = fd
        self.uppers: list[int] = []
        self.works: list[int] = []
        try:
            for number in range(overlays):
                self.uppers.append(os.open(f"upper-{number}", _READ, dir_fd=fd))
                self.works.append(os.open(f"work-{number}", _PATH, dir_fd=fd))
        except BaseException:
            self.close()
            raise

    @classmethod
    def make(cls, layers: Iterable[Layer | Looks], *, size_bytes: int = 0) -> Writable:
        """Make one, of at most *size_bytes*; 0: 1 GiB, or half of the memory if that is less."""
        size = size_bytes or _default_bytes()
        inodes = max(size // _BYTES_PER_INODE, _LEAST_INODES)
        words = (("mode", "700"), ("size", str(size)), ("nr_inodes", str(inodes)))
        options = Options(set_=_ATTRIBUTES, filesystem=words)
        fd, number = filesystem("tmpfs", "orlop", options), 0
        try:
            for layer in layers:
                _make_folders(fd, number, layer)
                number += 1
        except BaseException:
            os.close(fd)
            raise
        return cls(fd, overlays=number)

    def started(self) -> None:
        """Close what only the start needs."""
        for fds in (self.uppers, self.works):
            while fds:
                os.close(fds.pop())

    def close(self) -> None:
        """Let go of it."""
        self.started()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _default_bytes() -> int:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(_DEFAULT_BYTES, memory // 2)


def _make_folders(fd: int, number: int, looks: Layer | Looks) -> None:
    upper = f"upper-{number}"
    os.mkdir(upper, 0o700, dir_fd=fd)
    os.chmod(upper, looks.mode, dir_fd=fd)
    if looks.uid or looks.gid:
        os.chown(upper, looks.uid, looks.gid, dir_fd=fd)
    os.mkdir(f"work-{number}", 0o700, dir_fd=fd)
