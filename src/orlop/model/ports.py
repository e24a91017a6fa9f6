"""Ports as people write them: 80, 8000-8010."""

from __future__ import annotations

PROTOCOLS = ("tcp", "udp", "sctp")
LAST_PORT = 65535


def parse_ports(text: str) -> range:
    """Return the ports of "80" or "80-82", 0 too; an empty range for any other text."""
    first, dash, last = text.partition("-")
    last = last if dash else first
    if not all(word.isascii() and word.isdecimal() and len(word) <= 5 for word in (first, last)):
        return range(0)
    return range(int(first), int(last) + 1) if int(last) <= LAST_PORT else range(0)
