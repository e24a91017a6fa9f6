"""Descriptors below FD_SETSIZE, for libraries that use select(2), which aborts at higher ones."""

import os

FD_SETSIZE = 1024

_kept: list[int] = []


def keep(count: int) -> None:
    """Reserve *count* low descriptors, one for each connection that is opened later.

    A program with many open files calls this when it starts: the kernel allocates the lowest
    free number, and later there may be none below FD_SETSIZE.
    """
    for _ in range(count):
        fd = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        if fd >= FD_SETSIZE:
            os.close(fd)
            return
        _kept.append(fd)


def are_kept() -> bool:
    """Whether a reserved descriptor is left."""
    return bool(_kept)


def give_up() -> None:
    """Close a reserved descriptor, so that the next open file gets its number."""
    os.close(_kept.pop())
