"""What commands print, on a terminal: only our own escape sequences reach it.

Names, labels, commands and messages come from images, registries and containers. A
command prints them as they are, and this shows what a terminal would obey. What a
container's program writes does not come this way: run, exec, attach and logs write it
to the descriptors, untouched.
"""

from __future__ import annotations

from orlop.model.plain import one_line, plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO


class Screen:
    """A stream to a terminal, as far as commands use one."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.flush = stream.flush
        self.fileno = stream.fileno
        self.isatty = stream.isatty

    def write(self, text: str) -> int:
        """Write *text* without what a terminal would obey."""
        self.stream.write(plain(text))
        return len(text)


def canvas(out: TextIO) -> TextIO:
    """Return the stream on which a command may draw with escape sequences of its own."""
    return out.stream if isinstance(out, Screen) else out


def say(err: TextIO, text: object) -> None:
    """Print an error or a warning as one line, wherever *err* leads."""
    print(one_line(str(text)), file=err)
