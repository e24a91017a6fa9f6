"""Durations in Go's spelling: 1m30s, 500ms."""

from __future__ import annotations

_UNITS_NS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_MOST_NS = 1 << 63


def parse_duration_ns(text: str) -> int:
    """Return the nanoseconds of "1m30s", "1.5h" or "0"; ValueError for any other text."""
    if text == "0":
        return 0
    total, rest = 0, text.strip()
    while rest:
        figure = _leading(rest, "0123456789.")
        rest = rest[len(figure) :]
        unit = _leading(rest, "nuµmsh")
        while unit and unit not in _UNITS_NS:
            unit = unit[:-1]
        rest = rest[len(unit) :]
        if not unit or len(figure) > 40 or not figure.replace(".", "", 1).isdecimal():
            break
        total += int(float(figure) * _UNITS_NS[unit])
    else:
        if text.strip() and total < _MOST_NS:
            return total
    raise ValueError("expected a duration such as 30s or 1m30s")


def _leading(text: str, letters: str) -> str:
    return text[: len(text) - len(text.lstrip(letters))]
