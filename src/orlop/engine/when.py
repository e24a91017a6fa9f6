"""Times as filters write them: 10m, 2026-01-02, 2026-01-02T03:04:05Z, seconds since the epoch."""

import re
import time
from datetime import datetime

from orlop.engine.requests import Filters
from orlop.errors import InvalidArgumentError

_SPAN = re.compile(r"(?:(\d+(?:\.\d+)?)(h|ms|m|s|us|ns))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|us|ns)")
_UNITS_NS = {
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1000,
    "ns": 1,
}


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
    if _SPAN.fullmatch(text):
        parts = _PART.findall(text)
        return time.time_ns() - sum(int(float(number) * _UNITS_NS[unit]) for number, unit in parts)
    try:
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return int(float(text) * 1e9)
        moment = datetime.fromisoformat(text)
        return int(moment.timestamp() * 1e9)
    except (ValueError, OverflowError):
        raise InvalidArgumentError(f"invalid time {text[:100]!r}", hint='such as "24h"') from None
