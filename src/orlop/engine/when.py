"""Times as filters write them: 10m, 2026-01-02, 2026-01-02T03:04:05Z, seconds since the epoch."""

from orlop.engine.requests import Filters
from orlop.errors import InvalidArgumentError
from orlop.model.moments import parse_moment_ns


def parse_until(filters: Filters) -> int:
    """Return the filter "until" in nanoseconds since the epoch; 0 where there is none."""
    values = filters.get("until", ())
    if not values:
        return 0
    if len(values) > 1:
        raise InvalidArgumentError("more than one until filter specified")
    return parse_moment(values[0])


def parse_moment(text: str) -> int:
    """Return a moment, or one that lies a span before now, in nanoseconds since the epoch."""
    try:
        return parse_moment_ns(text)
    except ValueError:
        raise InvalidArgumentError(f"invalid time {text[:100]!r}", hint='such as "24h"') from None
