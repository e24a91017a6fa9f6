"""Times in the spellings of Docker's API: from and to nanoseconds since the epoch."""

import re
import time

from orlop.errors import InvalidArgumentError
from orlop.model.moments import rfc3339_ns

ZERO = "0001-01-01T00:00:00Z"  # Go's zero time: never

_UNIX = re.compile(r"(-?\d+)(?:\.(\d{1,9})\d*)?")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
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


def parse_time(text: str, name: str, *, now_ns: int | None = None) -> int:
    """Parse seconds[.nanoseconds], RFC 3339 or a duration before now; 0 for "" and "0"."""
    if not text:
        return 0
    match = _UNIX.fullmatch(text)
    if match is not None:
        return int(match[1]) * 1_000_000_000 + int((match[2] or "").ljust(9, "0") or 0)
    moment_ns = rfc3339_ns(text)
    if moment_ns is not None:
        return moment_ns
    if _DURATION.sub("", text) == "":
        seconds = sum(float(n) * _UNITS_S[unit] for n, unit in _DURATION.findall(text))
        return (time.time_ns() if now_ns is None else now_ns) - int(seconds * 1e9)
    raise InvalidArgumentError(
        f"parameter {name}: invalid time {text[:100]!r}",
        hint="a unix time, a date such as 2025-01-02T03:04:05Z, or a duration such as 10m",
    )


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
