"""Format tables as runc does, with Go's tabwriter: columns at least 12 wide, 3 blanks apart."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_NARROWEST, _GAP = 12, 3


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the lines; the last column is not padded."""
    lines = [head, *rows]
    widths = [
        max(_NARROWEST, *(len(word) + _GAP for word in column))
        for column in zip(*lines, strict=True)
    ]
    return "".join(
        "".join(f"{word:{width}}" for word, width in zip(line[:-1], widths, strict=False))
        + f"{line[-1]}\n"
        for line in lines
    )
