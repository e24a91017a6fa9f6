"""From text to value: durations, and the small languages of run's options.

Every function raises ValueError with a clause that says what it expected.
"""

from __future__ import annotations

from orlop.model.sizes import parse_size

_DURATIONS_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}


def size_or_unlimited(value: str) -> int:
    """Return bytes, or -1 for no limit."""
    return -1 if value.strip() == "-1" else parse_size(value)


def duration(value: str) -> int:
    """Return nanoseconds for "1m30s", "500ms", "0"; Go's spelling of durations."""
    if value == "0":
        return 0
    total = 0.0
    rest = value.strip()
    if not rest:
        raise ValueError("expected a duration such as 30s or 1m30s")
    while rest:
        figure = _leading(rest, "0123456789.")
        rest = rest[len(figure) :]
        unit = _leading(rest, "nuµmsh")
        while unit and unit not in _DURATIONS_NS:
            unit = unit[:-1]
        rest = rest[len(unit) :]
        if not unit or not figure or figure.count(".") > 1 or figure == ".":
            raise ValueError("expected a duration such as 30s or 1m30s")
        total += float(figure) * _DURATIONS_NS[unit]
    return int(total)


def _leading(value: str, letters: str) -> str:
    return value[: len(value) - len(value.lstrip(letters))]


def cpus(value: str) -> int:
    """Return billionths of a processor for "1.5"."""
    try:
        nano = round(float(value) * 1_000_000_000)
    except (ValueError, OverflowError):
        raise ValueError("expected a number of processors such as 1.5") from None
    if nano < 0:
        raise ValueError("expected a number of processors such as 1.5")
    return nano


def key_value(value: str) -> tuple[str, str]:
    """Split KEY[=VALUE]; a key alone has an empty value."""
    key, _, rest = value.partition("=")
    if not key:
        raise ValueError("expected KEY=VALUE")
    return key, rest


def key_values(values: list[str], *, option: str) -> dict[str, str]:
    """Return all KEY=VALUE of *option* as a dictionary."""
    result = {}
    for value in values:
        try:
            key, rest = key_value(value)
        except ValueError as error:
            raise ValueError(f"invalid value {value!r} for {option}: {error}") from None
        result[key] = rest
    return result


def filters(values: list[str]) -> dict[str, list[str]]:
    """Return --filter KEY=VALUE options in the form of the API."""
    result: dict[str, list[str]] = {}
    for value in values:
        key, equals, rest = value.partition("=")
        if not key or not equals:
            raise ValueError(f"invalid filter {value!r}: expected KEY=VALUE")
        result.setdefault(key.strip().lower(), []).append(rest)
    return result


def moment(value: str) -> str:
    """Return seconds since the epoch for a time (RFC 3339, a date) or how long ago ("10m")."""
    import time
    from datetime import UTC, datetime

    if not value:
        return ""
    if value.replace(".", "", 1).isdecimal():
        return value
    try:
        ago = duration(value)
    except ValueError:
        pass
    else:
        return f"{time.time() - ago / 1e9:.9f}"
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(
            f"invalid time {value!r}: expected 2026-01-31T12:00:00, 10m or seconds"
        ) from None
    return f"{(when if when.tzinfo else when.astimezone(UTC)).timestamp():.6f}"
