"""Which error is which HTTP status: the one table."""

import errno
from collections.abc import Mapping

from orlop.api.messages import Response
from orlop.errors import (
    AlreadyExistsError,
    CorruptError,
    ExhaustedError,
    InvalidArgumentError,
    NotFoundError,
    OrlopError,
    PermissionDeniedError,
    UnavailableError,
    UnsupportedError,
    WrongStateError,
)

STATUS: Mapping[type[OrlopError], int] = {
    InvalidArgumentError: 400,
    NotFoundError: 404,
    AlreadyExistsError: 409,
    WrongStateError: 409,
    PermissionDeniedError: 403,
    UnsupportedError: 501,
    UnavailableError: 503,
    ExhaustedError: 507,
    CorruptError: 500,
}


def status_of(error: OrlopError) -> int:
    """The status of *error*, or of the nearest class it derives from."""
    return next((STATUS[cls] for cls in type(error).__mro__ if cls in STATUS), 500)


def render_error(error: OrlopError) -> Response:
    """Return the answer that tells a client of *error*."""
    return Response.message(status_of(error), str(error))


def translate_os_error(error: OSError) -> OrlopError:
    """Say in our words what the kernel refused and no room below has translated.

    What it was about is a path of the host's, and in the log.
    """
    message = f"{error.strerror or type(error).__name__} (see the engine's log)"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return ExhaustedError(message.lower())
    return OrlopError(message[:1].lower() + message[1:])
