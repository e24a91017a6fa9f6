"""A command that runs in a sandbox at a terminal of its own."""

from collections.abc import Iterator

from orlop.sandbox.conversation import Conversation
from orlop.sandbox.way import Size


class Terminal(Conversation):
    """Iterating gives what it shows as it comes, bytes, until the command has ended.

    What send() types comes back in it, unless the command turns its terminal's echo off.
    """

    def __iter__(self) -> Iterator[bytes]:
        for _, piece in self._pieces():
            yield piece

    def resize(self, *, rows: int, columns: int) -> None:
        """Make it another size; the command gets SIGWINCH."""
        self._handle.resize(Size(rows, columns))
