"""One pool for everything that is made ahead or used again.

    make -> ready -> taken -> given back -> reset -> ready
              |                               |
              +---- not good any more ------> end, also if there is no room

A pool runs nothing by itself: its owner calls refill() when there is time, from an event
loop, a thread or asyncio.
"""

from __future__ import annotations

import time

from orlop.errors import OrlopError
from orlop.model.light import Callable, Generic, Iterable, Iterator, NamedTuple, Sequence, TypeVar
from orlop.model.light_context import contextmanager, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable

T = TypeVar("T")


class Stock(NamedTuple):
    """The state of one pool."""

    ready: int  # now
    most: int  # that it keeps
    hits: int = 0  # requests that found something ready
    misses: int = 0  # requests that did not


class Tally:
    """Counts the requests to a pool."""

    def __init__(self) -> None:
        self._hits = self._misses = 0

    def count(self, *, hit: bool) -> None:
        """Count a request that was served from the pool, or was not."""
        if hit:
            self._hits += 1
        else:
            self._misses += 1

    def stock(self, *, ready: int, most: int) -> Stock:
        """Return the pool's state with so many *ready*."""
        return Stock(ready, most, self._hits, self._misses)


def _yes(_: object) -> bool:
    return True


def _drained(waiting: list[tuple[T, float]]) -> Iterator[T]:
    """Take one after the other out, the latest first, though other threads do so too."""
    with suppress(IndexError):
        while waiting:
            yield waiting.pop()[0]


class ObjectPool(Generic[T]):
    """Objects by their kind: at most *size* of all kinds wait, and *each* of one kind.

    *check* says whether an object that waited is still good, *reset* prepares a used one for
    its next user if it can, and *end* disposes of one. refill() makes objects until *ahead* of
    each kind wait.

    Threads may share a pool: no object is taken twice, but the bounds are not exact then.
    """

    def __init__(
        self,
        *,
        end: Callable[[T], object],
        check: Callable[[T], bool] = _yes,
        reset: Callable[[T], bool] = _yes,
        size: int,
        each: int | None = None,
        ahead: int = 0,
    ) -> None:
        self._end = end
        self._check = check
        self._reset = reset
        self._size = size
        self._each = size if each is None else each
        self.ahead = ahead
        self._waiting: dict[Hashable, list[tuple[T, float]]] = {}  # with the time; oldest first
        self._makes: dict[Hashable, Callable[[], T]] = {}
        self._tally = Tally()

    def __iter__(self) -> Iterator[T]:
        """Those that wait."""
        return iter([item for waiting in self._waiting.values() for item, _ in waiting])

    @property
    def waiting(self) -> int:
        """How many are ready."""
        return sum(map(len, tuple(self._waiting.values())))

    @property
    def kinds(self) -> Sequence[Hashable]:
        """All that the pool knows."""
        return list(self._waiting)

    @property
    def stock(self) -> Stock:
        """The pool's state, for metrics."""
        return self._tally.stock(ready=self.waiting, most=self._size)

    def want(self, kind: Hashable = None, make: Callable[[], T] | None = None) -> None:
        """Keep objects of *kind* from now on, and make some ahead with *make*."""
        self._waiting.setdefault(kind, [])
        if make is not None:
            self._makes[kind] = make

    def take(self, *kinds: Hashable, again: bool = False) -> T | None:
        """Return the latest of the first of *kinds* that has a good one; None if none has.

        The pool knows the kinds from then on. A request made *again* is not counted.
        """
        found = self._first_good(kinds or (None,))
        if not again:
            self._tally.count(hit=found is not None)
        return found

    def _first_good(self, kinds: Iterable[Hashable]) -> T | None:
        for kind in kinds:
            for item in _drained(self._waiting.setdefault(kind, [])):
                if self._check(item):
                    return item
                self._end(item)
        return None

    def get(self, kind: Hashable, make: Callable[[], T]) -> T:
        """Return one that waits or a new one from *make*, whose errors it raises."""
        self.want(kind, make)
        item = self.take(kind)
        return make() if item is None else item

    def put(self, item: T, kind: Hashable = None) -> bool:
        """Keep a new one, or end it if there is no room; return whether it was kept."""
        waiting = self._waiting.get(kind)
        if waiting is None or not self._has_room(waiting):
            self._end(item)
            return False
        waiting.append((item, time.monotonic()))
        return True

    def give_back(self, item: T, kind: Hashable = None, *, reusable: bool = True) -> bool:
        """Reset a used one and keep it, or end it if that cannot be; return whether it was kept."""
        if reusable and kind in self._waiting and self._reset(item):
            return self.put(item, kind)
        self._end(item)
        return False

    @contextmanager
    def lent(self, kind: Hashable, make: Callable[[], T]) -> Iterator[T]:
        """Lend one to the body; if the body raises, it is ended."""
        item = self.get(kind, make)
        try:
            yield item
        except BaseException:
            self._end(item)
            raise
        self.give_back(item, kind)

    def missing(self, kind: Hashable = None) -> int:
        """Return how many more of *kind* are to wait; none if it is negative."""
        return self.ahead - len(self._waiting.get(kind, ()))

    def refill(self) -> bool:
        """Make one where too few wait; return whether more may be missing.

        An error is not reported: whoever needs that object will meet it again.
        """
        for kind, make in self._makes.items():
            if self.missing(kind) > 0:
                try:
                    return self.put(make(), kind)
                except (OSError, OrlopError):
                    continue
        return False

    def withdraw(self, which: Callable[[T], bool]) -> list[T]:
        """Take out all that *which* is true of; they are the caller's."""
        found: list[T] = []
        for waiting in self._waiting.values():
            for pair in [pair for pair in waiting if which(pair[0])]:
                waiting.remove(pair)
                found.append(pair[0])
        return found

    def trim(self, age_s: float, kind: Hashable = None) -> None:
        """End those of *kind* that have waited for *age_s* or longer."""
        latest_s = time.monotonic() - age_s
        waiting = self._waiting.get(kind, [])
        while waiting and waiting[0][1] <= latest_s:
            self._end(waiting.pop(0)[0])

    def forget(self, kind: Hashable) -> None:
        """End those of a kind that nobody asks for any more; later ones are not kept."""
        self._makes.pop(kind, None)
        for item, _ in self._waiting.pop(kind, ()):
            self._end(item)

    def empty(self) -> None:
        """End all that wait."""
        for waiting in self._waiting.values():
            for item in _drained(waiting):
                self._end(item)

    def close(self) -> None:
        """Forget all kinds."""
        for kind in list(self._waiting):
            self.forget(kind)

    def _has_room(self, waiting: list[tuple[T, float]]) -> bool:
        """Whether one more may join *waiting*; the kind with most of them makes way."""
        if len(waiting) >= self._each:
            return False
        if self.waiting < self._size:
            return True
        most = max(tuple(self._waiting.values()), key=len)
        if len(most) <= len(waiting):
            return False
        self._end(most.pop(0)[0])
        return True
