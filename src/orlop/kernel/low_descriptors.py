"""Descriptors below FD_SETSIZE, for libraries that wait by select(2): it aborts at higher ones."""

import os

FD_SETSIZE = 1024

_kept: list[int] = []


def keep(count: int) -> None:
    """Keep *count* low descriptors, each for one connection that is made later.

    A program with many open files calls this when it starts: the kernel gives out the
    lowest number that is free, and later there may be none below FD_SETSIZE.
    """
    for _ in range(count):
        fd = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        if fd >= FD_SETSIZE:
            os.close(fd)
            return
        _kept.append(fd)


def are_kept() -> bool:
    """Return whether there is one to give up."""
    return bool(_kept)


def give_up() -> None:
    """Close one that is kept, so that its number is the next open file's."""
    os.close(_kept.pop())
