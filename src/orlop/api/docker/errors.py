"""What clients are told of an error."""

import errno

import msgspec

from orlop.api.messages import Response
from orlop.errors import ExhaustedError, OrlopError, kind_of


def render_error(error: OrlopError) -> Response:
    """Return the answer that tells a client of *error*: Docker's, and the error's kind."""
    body = {"message": str(error), "kind": kind_of(error)}
    return Response(error.status, msgspec.json.encode(body))


def translate_os_error(error: OSError) -> OrlopError:
    """Say in our words what the kernel refused and no room below has translated.

    What it was about is a path of the host's, and in the log.
    """
    message = f"{error.strerror or type(error).__name__} (see the engine's log)"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return ExhaustedError(message.lower())
    return OrlopError(message[:1].lower() + message[1:])
