"""Signals by name or number."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # no stub; the enums of signal cost 5 ms

_MOST: int = _signal.NSIG - 1


def signal_number(text: str) -> int:
    """Return the number of "TERM", "SIGTERM", "15", "RTMIN+1", "RTMAX-1"; else ValueError.

    0 is allowed, too: with it kill(2) checks whether a process exists.
    """
    word = text.strip()
    if word.isascii() and word.isdecimal():
        number = int(word[:10])
    else:
        name = word.upper().removeprefix("SIG")
        base, sign, more = name.partition("-" if name.startswith("RTMAX") else "+")
        number = getattr(_signal, f"SIG{base}", -1) if base.isalnum() else -1
        if sign:
            is_real_time = base in ("RTMIN", "RTMAX") and more.isascii() and more.isdecimal()
            offset = int(more[:10]) if is_real_time else _MOST
            number = number - offset if sign == "-" else number + offset
            number = number if number >= _signal.SIGRTMIN else -1
    if not 0 <= number <= _MOST:
        raise ValueError(f'unknown signal "{text[:50]}"')
    return number
