"""What containerd's clients keep, by namespace, kind and key: leases, labels of blobs, …"""

import sqlite3
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

import msgspec

from orlop.errors import AlreadyExistsError, NotFoundError
from orlop.store.database import Database

T = TypeVar("T", bound=msgspec.Struct)


class Entry(NamedTuple, Generic[T]):
    """One object, and where it is."""

    namespace: str
    key: str
    value: T


class Objects(Generic[T]):
    """All objects of one *kind*, whose values are of *type*."""

    def __init__(self, database: Database, kind: str, type: type[T]) -> None:  # noqa: A002
        self._database = database
        self._kind = kind
        self._decode = msgspec.json.Decoder(type).decode

    def add(self, namespace: str, key: str, value: T) -> None:
        """Record a new object; AlreadyExistsError if the key is taken."""
        row = (namespace, self._kind, key, msgspec.json.encode(value))
        try:
            with self._database.write(adds=True) as connection:
                connection.execute("INSERT INTO objects VALUES (?, ?, ?, ?)", row)
        except sqlite3.IntegrityError:
            raise AlreadyExistsError(f"the {self._kind} {key[:200]} exists") from None

    def put(self, namespace: str, key: str, value: T) -> None:
        """Record an object, new or changed."""
        row = (namespace, self._kind, key, msgspec.json.encode(value))
        with self._database.write(adds=True) as connection:
            connection.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", row)

    def get(self, namespace: str, key: str) -> T:
        """Return the object; NotFoundError if there is none."""
        found = self.find(namespace, key)
        if found is None:
            raise NotFoundError(f"no {self._kind} {key[:200]}")
        return found

    def find(self, namespace: str, key: str) -> T | None:
        """Return the object, if there is one."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT record FROM objects WHERE namespace = ? AND kind = ? AND key = ?",
                (namespace, self._kind, key),
            ).fetchone()
        return self._decode(row[0]) if row else None

    def list(self, namespace: str) -> Sequence[Entry[T]]:
        """Return the objects of a namespace, by key."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT key, record FROM objects WHERE namespace = ? AND kind = ? ORDER BY key",
                (namespace, self._kind),
            ).fetchall()
        return [Entry(namespace, key, self._decode(record)) for key, record in rows]

    def list_all(self) -> Sequence[Entry[T]]:
        """Return the objects of all namespaces, by namespace and key."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT namespace, key, record FROM objects WHERE kind = ? ORDER BY 1, 2",
                (self._kind,),
            ).fetchall()
        return [Entry(namespace, key, self._decode(record)) for namespace, key, record in rows]

    def remove(self, namespace: str, key: str) -> None:
        """Forget the object; one that is gone is no error."""
        with self._database.write() as connection:
            connection.execute(
                "DELETE FROM objects WHERE namespace = ? AND kind = ? AND key = ?",
                (namespace, self._kind, key),
            )


def kinds_in(database: Database, namespace: str) -> list[str]:
    """Return the kinds of the objects that a namespace has."""
    with database.read() as connection:
        rows = connection.execute(
            "SELECT DISTINCT kind FROM objects WHERE namespace = ? ORDER BY kind", (namespace,)
        ).fetchall()
    return [kind for (kind,) in rows]


def has_objects(database: Database) -> bool:
    """Whether there is any object."""
    with database.read() as connection:
        return connection.execute("SELECT 1 FROM objects LIMIT 1").fetchone() is not None
