"""Moments as documents and people write them."""

import re
import time
from datetime import datetime

from orlop.model.durations import parse_duration_ns

_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9})\d*)?)?([Zz]|[+-]\d\d:\d\d)?"
)
_UNIX = re.compile(r"(-?\d{1,12})(?:\.(\d{1,9})\d*)?")


def parse_moment_ns(text: str) -> int:
    """Return nanoseconds since the epoch of "1700000000.5", an RFC 3339 time, or "10m" ago.

    A time without a zone is local. ValueError for any other text.
    """
    if match := _UNIX.fullmatch(text):
        return int(match[1]) * 1_000_000_000 + int((match[2] or "").ljust(9, "0"))
    moment_ns = rfc3339_ns(text, zone="")
    if moment_ns is not None:
        return moment_ns
    try:
        return time.time_ns() - parse_duration_ns(text)
    except ValueError:
        raise ValueError("expected a time such as 2026-01-31T12:00:00, seconds or 10m") from None


def rfc3339_ns(text: str, *, zone: str = "+00:00") -> int | None:
    """Return nanoseconds since the epoch of an RFC 3339 time, in *zone* unless it names one.

    Without either it is local. A date alone is its first moment. None if *text* is no such time.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    date, clock, fraction, named = match.groups()
    if named:
        zone = "+00:00" if named in "zZ" else named
    try:
        moment = datetime.fromisoformat(f"{date}T{clock or '00:00:00'}{zone}")
        return int(moment.timestamp()) * 1_000_000_000 + int((fraction or "").ljust(9, "0") or 0)
    except (ValueError, OverflowError):
        return None
