"""What an exception becomes on the wire: errors.failure_of."""

import errno
import traceback
from typing import Any

from orlop.errors import OrlopError, failure_of

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def failure(error: Exception) -> dict[str, Any]:
    """Return what to answer; an error that is our own fault is printed to shim.log."""
    if isinstance(error, OrlopError):
        return failure_of(error)
    if isinstance(error, (KeyError, TypeError, ValueError)):
        traceback.print_exception(error)
        text = f"bad request: {type(error).__name__}: {error}"
        return {"kind": "invalid_argument", "message": text, "hint": None}
    if isinstance(error, OSError):
        kind = "exhausted" if error.errno in _FULL else "unavailable"
        return {"kind": kind, "message": str(error), "hint": None}
    traceback.print_exception(error)
    return {"kind": "orlop", "message": f"internal error: {error!r}", "hint": "see shim.log"}
