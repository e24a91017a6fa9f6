"""Lists cut into messages, for the RPCs that answer with streams of lists."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
_ITEMS = 256  # of a message: far below the limit of its bytes


def batches(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield the items in lists that are not empty."""
    rest = iter(items)
    while batch := list(islice(rest, _ITEMS)):
        yield batch
