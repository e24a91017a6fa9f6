"""The kernel's errors as clients see them, if no room below has translated them."""

import errno

from orlop.errors import ExhaustedError, OrlopError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def translate_os_error(error: OSError) -> OrlopError:
    """Return *error* in Orlop's words, without its path: only the log has paths of the host."""
    message = f"{error.strerror or type(error).__name__} (see the engine's log)"
    if error.errno in _FULL:
        return ExhaustedError(message.lower())
    return OrlopError(message[:1].lower() + message[1:])
