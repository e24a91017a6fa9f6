"""Sizes, durations and times as Docker prints them."""

from __future__ import annotations

import time
from datetime import UTC, datetime

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_MINUTE, _HOUR, _DAY, _WEEK, _MONTH, _YEAR = 60, 3600, 86400, 604800, 2592000, 31536000


def size(count: float, *, digits: int = 3) -> str:
    """Return *count* bytes in powers of 1000: "4.26MB"."""
    return _scaled(count, 1000, _DECIMAL, digits)


def binary_size(count: float, *, digits: int = 4) -> str:
    """Return *count* bytes in powers of 1024: "1.945GiB"."""
    return _scaled(count, 1024, _BINARY, digits)


def _scaled(count: float, base: int, names: tuple[str, ...], digits: int) -> str:
    step = 0
    while abs(count) >= base and step < len(names) - 1:
        count /= base
        step += 1
    return f"{count:.{digits}g}{names[step]}"


def duration(seconds: float) -> str:
    """Return about how long *seconds* are: "About a minute", "3 weeks"."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < _MINUTE:
        return f"{whole} seconds"
    if whole < 2 * _MINUTE:
        return "About a minute"
    if whole < _HOUR:
        return f"{whole // _MINUTE} minutes"
    if round(whole / _HOUR) == 1:
        return "About an hour"
    for limit, unit, name in (
        (2 * _DAY, _HOUR, "hours"),
        (2 * _WEEK, _DAY, "days"),
        (2 * _MONTH, _WEEK, "weeks"),
        (2 * _YEAR, _MONTH, "months"),
    ):
        if whole < limit:
            return f"{whole // unit} {name}"
    return f"{whole // _YEAR} years"


def ago(when_s: float, *, now_s: float | None = None) -> str:
    """Return how long ago a moment was: "3 weeks ago"; "N/A" for no moment."""
    if when_s <= 0:
        return "N/A"
    return f"{duration((time.time() if now_s is None else now_s) - when_s)} ago"


def epoch(text: str) -> float:
    """Return seconds since the epoch for an RFC 3339 time with up to nine decimals; 0 for none."""
    if not text or text.startswith("0001-"):
        return 0.0
    main, dot, fraction = text.rstrip("Z").partition(".")
    digits = fraction[: len(fraction) - len(fraction.lstrip("0123456789"))]
    offset = fraction[len(digits) :] if dot else ""
    when = datetime.fromisoformat(main + offset)
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return when.timestamp() + float(f"0.{digits or 0}")


def local_time(seconds: float) -> str:
    """Return a moment in the user's own zone, as Docker's lists have it."""
    return datetime.fromtimestamp(int(seconds)).astimezone().strftime("%Y-%m-%d %H:%M:%S %z %Z")


def nano_time(nanoseconds: int) -> str:
    """Return a moment in the user's own zone with nine decimals, RFC 3339."""
    whole = datetime.fromtimestamp(nanoseconds // 1_000_000_000).astimezone()
    zone = whole.strftime("%z")
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{nanoseconds % 1_000_000_000:09d}{zone[:3]}:{zone[3:]}"


def truncated(text: str, width: int) -> str:
    """Return *text* cut to *width* letters, the last a "…" if any were cut."""
    return text if len(text) <= width else text[: width - 1] + "…"


def short_id(text: str) -> str:
    """Return the first twelve digits of an id, without its algorithm."""
    return text.partition(":")[2][:12] if text.startswith("sha256:") else text[:12]
