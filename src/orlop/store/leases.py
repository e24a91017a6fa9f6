"""What somebody is about to use: the collector leaves it alone.

Rule: lease a digest *before* looking whether its blob is here. While the
collector marks and sweeps, no lease can be taken; so either it sees the lease,
or the look comes after the blob is gone, and finds that.

Leases are taken in the engine's process only and end with it, so nothing of them is stored.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from orlop.model.digest import Digest


class Lease:
    """A set of digests that stay. Made by Leases.hold()."""

    def __init__(self, gate: threading.RLock) -> None:
        self._gate = gate
        self.digests: set[Digest] = set()

    def add(self, *digests: Digest) -> None:
        """Keep these too; waits while a collection is going on."""
        with self._gate:
            self.digests.update(digests)


class Leases:
    """All leases of one engine."""

    def __init__(self) -> None:
        self._gate = threading.RLock()
        self._held: set[Lease] = set()

    @contextmanager
    def hold(self) -> Iterator[Lease]:
        """Hold a lease while inside."""
        lease = Lease(self._gate)
        with self._gate:
            self._held.add(lease)
        try:
            yield lease
        finally:
            with self._gate:
                self._held.remove(lease)

    def digests(self) -> set[Digest]:
        """Return all that is leased."""
        with self._gate:
            return set[Digest]().union(*(lease.digests for lease in self._held))

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Let nobody take a lease while inside. For the collector."""
        with self._gate:
            yield
