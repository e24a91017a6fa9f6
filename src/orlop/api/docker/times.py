"""Times in the spellings of Docker's API: from and to nanoseconds since the epoch."""

import time

from orlop.errors import InvalidArgumentError
from orlop.model.moments import parse_moment_ns

ZERO = "0001-01-01T00:00:00Z"  # Go's zero time: never

_SPANS = (
    (60, 1, "seconds"),
    (3600, 60, "minutes"),
    (48 * 3600, 3600, "hours"),
    (14 * 86400, 86400, "days"),
    (60 * 86400, 7 * 86400, "weeks"),
    (730 * 86400, 30 * 86400, "months"),
)


def rfc3339(time_ns: int) -> str:
    """Return 2025-01-02T03:04:05.123456789Z; Go's zero time for 0."""
    if not time_ns:
        return ZERO
    seconds, fraction = divmod(time_ns, 1_000_000_000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{text}.{fraction:09d}".rstrip("0").rstrip(".") + "Z"


def rfc3339_padded(time_ns: int) -> str:
    """Return the time with all nine digits, as log lines have it."""
    seconds, fraction = divmod(time_ns, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{fraction:09d}Z"


def parse_time(text: str, name: str) -> int:
    """Return the moment that the parameter *name* says, as parse_moment_ns(); 0 for "" and "0"."""
    try:
        return parse_moment_ns(text) if text else 0
    except ValueError as error:
        raise InvalidArgumentError(
            f"parameter {name}: invalid time {text[:100]!r}", hint=str(error)
        ) from None


def span(duration_ns: int) -> str:
    """Say how long in words, roughly: "About a minute", "3 hours"."""
    seconds = max(0, duration_ns) // 1_000_000_000
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if 60 <= seconds < 120:
        return "About a minute"
    if 3570 <= seconds < 5400:
        return "About an hour"
    for limit, unit, word in _SPANS:
        if seconds < limit:
            return f"{(seconds + (unit // 2 if word == 'hours' else 0)) // unit} {word}"
    return f"{seconds // (365 * 86400)} years"
