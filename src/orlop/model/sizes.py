"""Sizes as options spell them."""

from orlop.errors import InvalidArgumentError

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}

_MOST_DIGITS = 18


def parse_size(text: str, what: str) -> int:
    """Parse 10, 10b, 10k, 10m, 10g; 0 for nothing or -1 (no limit)."""
    if text in ("", "-1"):
        return 0
    lower = text.lower().removesuffix("b")
    number, unit = (lower[:-1], lower[-1]) if lower[-1:] in ("k", "m", "g") else (lower, "")
    if not (number.isascii() and number.isdecimal() and len(number) <= _MOST_DIGITS):
        raise InvalidArgumentError(f"{what}: invalid size {text[:50]!r}", hint="such as 10m")
    return int(number) * _UNITS[unit]
