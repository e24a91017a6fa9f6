"""The tracing options of the current request.

They are in a context variable, which follows the work into its tasks and threads, so that
nobody has to pass them on.
"""

from contextvars import ContextVar
from typing import NamedTuple


class Asked(NamedTuple):
    """The options of one request."""

    timeline: bool = False  # record its steps, for GET /containers/ID/timeline
    traceparent: str = ""  # W3C Trace Context: the parent of the request's spans


NOTHING = Asked()

asked: ContextVar[Asked] = ContextVar("asked", default=NOTHING)
