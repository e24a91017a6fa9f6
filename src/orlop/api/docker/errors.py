"""What clients are told of an error."""

import msgspec

from orlop.api.messages import Response
from orlop.errors import OrlopError, kind_of


def render_error(error: OrlopError) -> Response:
    """Return the answer that tells a client of *error*: Docker's, and the error's kind."""
    body = {"message": str(error), "kind": kind_of(error)}
    return Response(error.status, msgspec.json.encode(body))
