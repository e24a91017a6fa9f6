"""From what the kernel refuses a program to what it can do about it."""

import errno

from orlop.errors import ExhaustedError

_TOO_MANY = (errno.EMFILE, errno.ENFILE)


def check_descriptors(error: OSError) -> None:
    """Raise ExhaustedError where *error* says that there is no descriptor left."""
    if error.errno in _TOO_MANY:
        whose = "this program" if error.errno == errno.EMFILE else "this machine"
        raise ExhaustedError(
            f"{whose} has too many open files", hint="raise `ulimit -n`, or do less at once"
        ) from error
