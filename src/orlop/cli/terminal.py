"""The user's terminal: raw while a container has it, and its size."""

from __future__ import annotations

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

DEFAULT_DETACH_KEYS = b"\x10\x11"  # ctrl-p, ctrl-q
_CONTROLS = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


class Raw:
    """A terminal in raw mode for as long as a with statement lasts; nothing for what is none.

    With *newlines* it goes on to add a carriage return to each newline, if it does so.
    """

    def __init__(self, descriptor: int, *, newlines: bool = False) -> None:
        self._descriptor = descriptor
        self._newlines = newlines
        self._saved: list[Any] | None = None

    def __enter__(self) -> None:
        if posix.isatty(self._descriptor):
            import termios
            import tty

            self._saved = termios.tcgetattr(self._descriptor)
            tty.setraw(self._descriptor, termios.TCSADRAIN)
            if self._newlines:
                settings = termios.tcgetattr(self._descriptor)
                settings[1] = self._saved[1]
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, settings)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._saved is not None:
            import termios

            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._saved)


def size(descriptor: int) -> tuple[int, int] | None:
    """Return (height, width) of a terminal; None if it is none or does not know."""
    try:
        width, height = posix.get_terminal_size(descriptor)
    except OSError:
        return None
    return (height, width) if height and width else None


def console_size() -> tuple[int, int] | None:
    """Return (height, width) of the user's terminal: that of the output, else of the input."""
    return size(1) or size(0)


def parse_detach_keys(text: str) -> bytes:
    """Return the bytes of "ctrl-p,ctrl-q" or "a,b"; ValueError for what names no key."""
    keys = bytearray()
    for name in text.split(","):
        if len(name) == 1 and name.isascii():
            keys += name.encode()
        elif name.startswith("ctrl-") and len(name) == 6:
            letter = name[5]
            code = ord(letter.lower()) - 96 if letter.isalpha() else _CONTROLS.get(letter, -1)
            if not 0 <= code < 32:
                raise ValueError(f"invalid detach key {name!r}")
            keys.append(code)
        else:
            raise ValueError(
                f"invalid detach key {name!r}: expected a letter or ctrl- and a letter"
            )
    return bytes(keys)


class DetachKeys:
    """Looks for a sequence of keys in what is typed; holds back what may be its beginning."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return what to pass on, and whether the whole sequence was typed."""
        passed = bytearray()
        for byte in data:
            if byte == self._keys[self._matched]:
                self._matched += 1
                if self._matched == len(self._keys):
                    return bytes(passed), True
                continue
            passed += self._keys[: self._matched]
            self._matched = 1 if byte == self._keys[0] else 0
            if not self._matched:
                passed.append(byte)
        return bytes(passed), False
