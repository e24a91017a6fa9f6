"""Make sure that no container can write to our interpreter.

Until its execve a container's process is a copy of ours, and its /proc/self/exe is the
interpreter. If that were the host's file, a container could write to it (CVE-2019-5736).
sealed_place.py makes another interpreter.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

#: Set while the place is made again, so that a permanent failure does not loop.
ANEW = "ORLOP_SEAL_ANEW"

#: The reason why there is no sealed place, passed to the process that runs unsealed.
UNSEALED = "ORLOP_UNSEALED"

_OURSELVES = "/proc/self/exe"
_F_GET_SEALS = 1034
_F_SEAL_WRITE = 0x0008


def check() -> None:
    """Return if no container can write to our interpreter; else execute a sealed copy.

    Call it before making a process of a container, and before anything that cannot be
    done twice.
    """
    if not (os.statvfs(_OURSELVES).f_flag & os.ST_RDONLY or not _is_ours() or _is_sealed()):
        _begin_again()


def is_current(interpreter: str) -> bool:
    """Whether *interpreter* is the file that we run from, perhaps through another mount."""
    try:
        one, other = os.stat(interpreter), os.stat(_OURSELVES)
    except OSError:
        return False
    return (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)


def _is_ours() -> bool:
    """Whether one of our containers could write to the file: it may do no more than we."""
    return os.access(_OURSELVES, os.W_OK) or os.stat(_OURSELVES).st_uid == os.geteuid()


def _is_sealed() -> bool:
    import fcntl

    fd = os.open(_OURSELVES, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return bool(fcntl.fcntl(fd, _F_GET_SEALS) & _F_SEAL_WRITE)
    except OSError:  # a file system without file seals
        return False
    finally:
        os.close(fd)


def _begin_again() -> NoReturn:
    from orlop.programs.oci.sealed_place import run_from_memory

    run_from_memory()
