"""From text to value: the small languages of run's options.

Every function raises ValueError with a clause that says what it expected.
"""

from __future__ import annotations

from orlop.model.sizes import parse_size


def size_or_unlimited(value: str) -> int:
    """Return bytes, or -1 for no limit."""
    return -1 if value.strip() == "-1" else parse_size(value)


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
    from orlop.model.moments import parse_moment_ns

    if not value:
        return ""
    try:
        seconds, rest_ns = divmod(parse_moment_ns(value), 1_000_000_000)
    except ValueError as error:
        raise ValueError(f"invalid time {value!r}: {error}") from None
    return f"{seconds}.{rest_ns:09d}"
