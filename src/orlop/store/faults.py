"""Turn the kernel's errors for the store's files into errors that a user can understand."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from orlop.errors import (
    CorruptError,
    ExhaustedError,
    OrlopError,
    PermissionDeniedError,
    WrongStateError,
)

#: Errors of a full disk, a quota or a file that has its maximum size.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DENIED = frozenset({errno.EACCES, errno.EPERM})


def fault(error: OSError, what: str) -> OrlopError | None:
    """Return the meaning of *error* for *what*; None if it has no special one."""
    if error.errno in FULL:
        return ExhaustedError(
            f"no space left to write {what}", hint="free some with `orlop system prune`"
        )
    if error.errno == errno.EROFS:
        return WrongStateError(
            f"cannot write {what}: the disk is read-only",
            hint="mount it writable, or choose another place with ORLOP_ROOT",
        )
    if error.errno in _DENIED:
        return PermissionDeniedError(f"no permission for {what}", hint="run as root")
    if error.errno == errno.EIO:
        return CorruptError(f"the disk failed while using {what}")
    return None


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Convert the kernel's errors in the block to errors that name *what*."""
    try:
        yield
    except OSError as error:
        known = fault(error, what)
        if known is None:
            raise
        raise known from error
