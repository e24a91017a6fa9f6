"""What clients take in turns: connections and processes that are kept between two starts."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Spares(Generic[T]):
    """As many of a thing as were ever wanted at once."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._free: list[T] = []
        self._all: list[T] = []

    @contextmanager
    def one(self) -> Iterator[T]:
        """Give one to a thread; after an error it is not given to another."""
        with self._lock:
            taken = self._free.pop() if self._free else None
        if taken is None:
            taken = self._make()
            with self._lock:
                self._all.append(taken)
        yield taken
        with self._lock:
            self._free.append(taken)

    def empty(self, end: Callable[[T], object]) -> None:
        """Do *end* with each that was made."""
        with self._lock:
            ended, self._all, self._free = self._all, [], []
        for one in ended:
            end(one)
