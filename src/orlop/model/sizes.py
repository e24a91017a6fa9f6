"""Parse sizes in bytes, as users write them."""

from __future__ import annotations

from orlop.errors import InvalidArgumentError

_UNITS = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
_MOST = 1 << 63


def parse_size(text: str) -> int:
    """Return the bytes of "512", "64k", "1.5g", "2GiB"; a unit is a power of 1024, as in Docker.

    ValueError for any other text, and for more than 63 bits.
    """
    lowered = text.strip().lower()
    figure = lowered.rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = lowered[len(figure) :].strip()
    unit = unit.removesuffix("ib") if len(unit) == 3 else unit
    unit = unit[:1] if len(unit) == 2 and unit[1] == "b" else unit
    shift = _UNITS.get(unit)
    if shift is None or not figure.isascii() or not figure.replace(".", "", 1).isdecimal():
        raise ValueError("expected a size such as 512m or 2g")
    size = int(float(figure) * (1 << shift)) if "." in figure else int(figure[:40]) << shift
    if size >= _MOST:
        raise ValueError("expected a size below 8 EiB")
    return size


def parse_limit(text: str, what: str) -> int:
    """Return the bytes in *text*, the option *what*; 0 for "" and -1, which mean no limit.

    InvalidArgumentError for any other text that is not a size.
    """
    if text in ("", "-1"):
        return 0
    try:
        return parse_size(text)
    except ValueError:
        raise InvalidArgumentError(
            f"{what}: invalid size {text[:50]!r}", hint="such as 10m"
        ) from None
