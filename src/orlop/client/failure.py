"""Turn the kernel's refusals of a program's calls into errors that say what to do."""

import errno

from orlop.errors import ExhaustedError

_TOO_MANY = (errno.EMFILE, errno.ENFILE)


def check_descriptors(error: OSError) -> None:
    """Raise ExhaustedError if *error* means that no descriptor is left."""
    if error.errno in _TOO_MANY:
        whose = "this program" if error.errno == errno.EMFILE else "this machine"
        raise ExhaustedError(
            f"{whose} has too many open files", hint="raise `ulimit -n`, or do less at once"
        ) from error
