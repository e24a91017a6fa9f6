"""Moments as documents write them: RFC 3339."""

import re
from datetime import datetime

_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9})\d*)?)?([Zz]|[+-]\d\d:\d\d)?"
)


def rfc3339_ns(text: str) -> int | None:
    """Return nanoseconds since the epoch of an RFC 3339 time, UTC unless it has a zone.

    A date alone is its first moment. None if *text* is no such time.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    date, clock, fraction, zone = match.groups()
    zone = "+00:00" if zone is None or zone in "zZ" else zone
    try:
        moment = datetime.fromisoformat(f"{date}T{clock or '00:00:00'}{zone}")
        return int(moment.timestamp()) * 1_000_000_000 + int((fraction or "").ljust(9, "0") or 0)
    except (ValueError, OverflowError):
        return None
