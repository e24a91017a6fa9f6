"""Text that strangers may have written, made harmless for a terminal and for a line.

A terminal obeys control characters: it sets the clipboard or the title, clears the
screen, hides text. Bidirectional overrides and zero-width characters show other text
than there is. Each is shown as JSON would escape it, so JSON stays JSON.
"""

from __future__ import annotations

#: Not printable for Python, and yet text: line breaks, tabs, and two kinds of space.
_HARMLESS = "\n\t\u00a0\u3000"


def plain(text: str) -> str:
    """Return *text* with all that a terminal obeys, but for line breaks and tabs, escaped."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in _HARMLESS else _escaped(one) for one in text)


def one_line(text: str) -> str:
    """Return *text* as one line without tabs, with all that a terminal obeys escaped."""
    if text.isprintable():
        return text
    return plain(text).replace("\n", "\\n").replace("\t", "\\t")


def _escaped(one: str) -> str:
    code = ord(one)
    if code < 1 << 16:
        return f"\\u{code:04x}"
    code -= 1 << 16
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
