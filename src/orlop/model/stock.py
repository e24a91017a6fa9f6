"""How a pool of things that are made ahead, or used again, stands."""

from __future__ import annotations

from orlop.model.light import NamedTuple


class Stock(NamedTuple):
    """Of one pool."""

    ready: int  # now
    most: int  # that it keeps
    hits: int = 0  # what was taken of it
    misses: int = 0  # what was wanted when there was nothing to take


class Tally:
    """Counts what a pool is asked for."""

    def __init__(self) -> None:
        self._hits = self._misses = 0

    def count(self, *, hit: bool) -> None:
        """Take note of one who was served, or not."""
        if hit:
            self._hits += 1
        else:
            self._misses += 1

    def stock(self, *, ready: int, most: int) -> Stock:
        """Return how it stands with so many *ready*."""
        return Stock(ready, most, self._hits, self._misses)
