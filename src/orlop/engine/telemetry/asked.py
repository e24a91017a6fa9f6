"""What the request that is being carried out asked to be told of itself.

A context variable, so that it follows the work into the tasks and threads it is done
in: who does a step need not pass on who asked for it.
"""

from contextvars import ContextVar
from typing import NamedTuple


class Asked(NamedTuple):
    """Of one request."""

    timeline: bool = False  # keep its steps, for GET /containers/ID/timeline
    traceparent: str = ""  # W3C Trace Context's: whose spans those of this request are part of


NOTHING = Asked()

asked: ContextVar[Asked] = ContextVar("asked", default=NOTHING)
