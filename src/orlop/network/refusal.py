"""Convert the kernel's errors to ours, for every driver."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from orlop.errors import (
    AlreadyExistsError,
    ExhaustedError,
    InvalidArgumentError,
    NotFoundError,
    OrlopError,
    PermissionDeniedError,
    UnsupportedError,
)

_CLASSES: dict[int, type[OrlopError]] = {
    errno.EEXIST: AlreadyExistsError,
    errno.EADDRINUSE: AlreadyExistsError,
    errno.EBUSY: AlreadyExistsError,
    errno.ENODEV: NotFoundError,
    errno.EPERM: PermissionDeniedError,
    errno.EACCES: PermissionDeniedError,
    errno.EOPNOTSUPP: UnsupportedError,
    errno.EAFNOSUPPORT: UnsupportedError,
    errno.EPROTONOSUPPORT: UnsupportedError,
    errno.ENOMEM: ExhaustedError,
    errno.ENOBUFS: ExhaustedError,
    errno.ENOSPC: ExhaustedError,
    errno.EXFULL: ExhaustedError,  # a bridge has 1,023 ports
}


@contextmanager
def refusals(doing: str, *, lacking: str = "") -> Iterator[None]:
    """Convert an OSError in the block to "*doing* failed"; *lacking* is what the kernel may lack.

    A ValueError, for an invalid address or number, becomes an InvalidArgumentError.
    """
    try:
        yield
    except OSError as error:
        raise _said(error, doing, lacking) from error
    except ValueError as error:
        raise InvalidArgumentError(f"cannot {doing}: {error}") from error


def _said(error: OSError, doing: str, lacking: str) -> OrlopError:
    reason = (error.strerror or str(error)).removeprefix("rtnetlink: ")
    about = f" ({error.filename})" if error.filename else ""
    number = error.errno or 0
    if number == errno.EXFULL:
        reason = "the bridge has no port left"
    hint = None
    if number == errno.EOPNOTSUPP and lacking:
        reason = f"this kernel has no {lacking}"
        hint = f"load the module {lacking}, or build the kernel with it"
    return _CLASSES.get(number, InvalidArgumentError)(f"cannot {doing}: {reason}{about}", hint=hint)
