"""Durations in Go's spelling: 1m30s, 500ms."""

import re

_UNITS_NS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_DURATION = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)(ns|us|ms|s|m|h)")


def parse_duration_ns(text: str) -> int:
    """Return nanoseconds; ValueError for what is no duration."""
    parts = _DURATION.findall(text)
    if not parts or "".join(value + unit for value, unit in parts) != text:
        raise ValueError(f"{text[:100]!r} is no duration such as 1m30s")
    return sum(int(float(value) * _UNITS_NS[unit]) for value, unit in parts)
