"""Warm sandboxes: started before anybody asks for them."""

import weakref
from dataclasses import dataclass, fields
from typing import Self

from orlop.errors import InvalidArgumentError
from orlop.sandbox.boxes.sandbox import Sandbox
from orlop.sandbox.boxes.warm import PoolStats, Warm
from orlop.sandbox.closing import Closing
from orlop.sandbox.options import Options, named


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PoolOptions(Options):
    """Keyword arguments of Pool and AsyncPool: those of each sandbox, and their number."""

    size: int = 4
    parallel: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size < 1 or self.parallel < 1:
            raise InvalidArgumentError(f"invalid pool: size={self.size}, parallel={self.parallel}")
        if self.name is not None or self.keep:
            raise InvalidArgumentError("sandboxes of a pool cannot have a name, or be kept")

    def warm(self) -> Warm:
        """Return what keeps so many, not started."""

        given = {option.name: getattr(self, option.name) for option in fields(Options)}

        def make() -> Sandbox:
            return Sandbox(**given).start()

        return Warm(make, size=self.size, parallel=self.parallel)


@named
class Pool(PoolOptions, Closing):
    """Keeps *size* sandboxes ready, and starts others in the background for those taken.

    One that ends by itself is replaced; one that is taken belongs to the taker, as if
    started by him: `with pool.take() as box`. At the end of the pool's block those that
    nobody has taken are gone.

    Options beyond those of Sandbox, but without *name* and *keep*:
        size: how many are to be ready.
        parallel: how many are started at a time.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._warm = self.warm()
        weakref.finalize(self, self._warm.drop).atexit = False  # else it goes with the program

    def __enter__(self) -> Self:
        return self.start()

    def start(self) -> Self:
        """Begin to fill it, without waiting for that; close() is then the caller's."""
        self._warm.start()
        return self

    def fill(self, *, timeout: float | None = None) -> None:
        """Wait until all are ready; raises as take()."""
        self._warm.fill(timeout=timeout)

    def take(self, *, timeout: float | None = None) -> Sandbox:
        """Return a started sandbox: at once if one is ready, else as soon as one is.

        UnavailableError after *timeout* seconds, or when one could not be started meanwhile.
        """
        return self._warm.take(timeout=timeout)

    def close(self) -> None:
        """Remove those that nobody has taken; again is no error."""
        self._warm.close()

    @property
    def ready(self) -> int:
        """How many can be taken at once."""
        return self._warm.stats().ready

    @property
    def stats(self) -> PoolStats:
        """How it is, and what has happened."""
        return self._warm.stats()
