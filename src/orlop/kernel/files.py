"""File calls that os lacks."""

from ctypes import c_int

from orlop.kernel.syscall import bind

_syncfs = bind("syncfs", c_int)


def syncfs(fd: int) -> None:
    """Write all of the file system that *fd* is on to disk. syncfs(2)."""
    _syncfs(fd)
