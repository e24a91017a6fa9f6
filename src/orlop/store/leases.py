"""Leases protect digests that are about to be used from garbage collection.

Rule: lease a digest *before* checking whether its blob is here. While the collector marks
and sweeps, no lease can be taken. So either the collector sees the lease, or the check comes
after the blob is gone, and fails.

Leases exist only in the engine's process and end with it, so they are not stored.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from orlop.model.digest import Digest


class Lease:
    """A set of protected digests. Made by Leases.hold()."""

    def __init__(self, gate: threading.RLock) -> None:
        self._gate = gate
        self.digests: set[Digest] = set()

    def add(self, *digests: Digest) -> None:
        """Protect these too; waits for a running collection."""
        with self._gate:
            self.digests.update(digests)


class Leases:
    """All leases of one engine."""

    def __init__(self) -> None:
        self._gate = threading.RLock()
        self._held: set[Lease] = set()

    @contextmanager
    def hold(self) -> Iterator[Lease]:
        """Hold a lease inside the block."""
        lease = Lease(self._gate)
        with self._gate:
            self._held.add(lease)
        try:
            yield lease
        finally:
            with self._gate:
                self._held.remove(lease)

    def digests(self) -> set[Digest]:
        """Return all leased digests."""
        with self._gate:
            return set[Digest]().union(*(lease.digests for lease in self._held))

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Block new leases inside the block. For the collector."""
        with self._gate:
            yield
