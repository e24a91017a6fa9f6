"""To do one thing to each of several names: what works is printed, what does not is counted."""

from __future__ import annotations

from orlop.cli.screen import say
from orlop.errors import OrlopError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TextIO


def each(
    names: Iterable[str], action: Callable[[str], object], *, out: TextIO | None, err: TextIO
) -> int:
    """Do *action* to each name; return 1 if any could not be done.

    The name is printed on *out*, unless *action* returned False: there was nothing to do.
    """
    failures = 0
    for name in names:
        try:
            done = action(name)
        except OrlopError as error:
            say(err, f"orlop: {error}")
            failures += 1
        else:
            if out is not None and done is not False:
                print(name, file=out)
    return 1 if failures else 0


def confirmed(question: str, out: TextIO) -> bool:
    """Ask the user; only "y" or "yes" is a yes."""
    import sys

    out.write(f"{question}\nAre you sure you want to continue? [y/N] ")
    out.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
