"""What somebody is about to use: the collector leaves it alone.

Rule: lease a digest *before* looking whether its blob is here. While the
collector marks and sweeps, no lease can be taken; so either it sees the lease,
or the look comes after the blob is gone, and finds that.
"""

import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from orlop.model.digest import Digest
from orlop.store.database import Database


class Lease:
    """A set of digests that stay. Made by Leases.hold()."""

    def __init__(self, leases: "Leases", name: str) -> None:
        self._leases = leases
        self._name = name

    def add(self, *digests: Digest) -> None:
        """Keep these too; waits while a collection is going on."""
        self._leases.extend(self._name, digests)


class Leases:
    """All leases of one engine. They are taken in its process only, and end with it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._gate = threading.RLock()

    @contextmanager
    def hold(self, what: str) -> Iterator[Lease]:
        """Hold a lease while inside; *what* says for what, as in "pull docker.io/…"."""
        name = secrets.token_hex(8)
        with self._gate, self._database.write() as connection:
            connection.execute("INSERT INTO leases VALUES (?, ?, ?)", (name, what, time.time_ns()))
        try:
            yield Lease(self, name)
        finally:
            with self._database.write() as connection:
                connection.execute("DELETE FROM leases WHERE id = ?", (name,))

    def extend(self, name: str, digests: Iterable[Digest]) -> None:
        """Add *digests* to the lease *name*."""
        rows = [(name, digest) for digest in digests]
        with self._gate, self._database.write() as connection:
            connection.executemany("INSERT OR IGNORE INTO leased VALUES (?, ?)", rows)

    def digests(self) -> set[Digest]:
        """Return all that is leased."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT DISTINCT digest FROM leased").fetchall()
        return {Digest(digest) for (digest,) in rows}

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Let nobody take a lease while inside. For the collector."""
        with self._gate:
            yield

    def clear(self) -> None:
        """End all leases: those of an engine that died. For an engine that opens."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM leases")
