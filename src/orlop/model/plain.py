"""Make untrusted text harmless for a terminal and for a single line.

A terminal obeys control characters: they set the clipboard or the title, clear the screen,
hide text. Bidirectional overrides and zero-width characters make text look different. Each is
shown as JSON would escape it, so JSON stays JSON.
"""

from __future__ import annotations

#: Not printable for Python, but allowed: line breaks, tabs, and two kinds of space.
_HARMLESS = "\n\t\u00a0\u3000"


def plain(text: str) -> str:
    """Return *text* with everything that a terminal obeys escaped, except newlines and tabs."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in _HARMLESS else _escaped(one) for one in text)


def one_line(text: str) -> str:
    """Return *text* as one line without tabs, with everything that a terminal obeys escaped."""
    if text.isprintable():
        return text
    return plain(text).replace("\n", "\\n").replace("\t", "\\t")


def _escaped(one: str) -> str:
    code = ord(one)
    if code < 1 << 16:
        return f"\\u{code:04x}"
    code -= 1 << 16
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
