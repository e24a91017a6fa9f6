"""containerd's namespaces, by name."""

import sqlite3

import msgspec

from orlop.errors import AlreadyExistsError, NotFoundError
from orlop.model.namespace import Namespace
from orlop.store.database import Database


class Namespaces:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._decode = msgspec.json.Decoder(Namespace).decode

    def add(self, namespace: Namespace) -> None:
        """Record a new namespace; AlreadyExistsError if there is one with its name."""
        try:
            with self._database.write(adds=True) as connection:
                connection.execute("INSERT INTO namespaces VALUES (?, ?)", _row(namespace))
        except sqlite3.IntegrityError:
            raise AlreadyExistsError(f"the namespace {namespace.name} exists") from None

    def put(self, namespace: Namespace) -> None:
        """Record a namespace, new or changed."""
        with self._database.write(adds=True) as connection:
            connection.execute("INSERT OR REPLACE INTO namespaces VALUES (?, ?)", _row(namespace))

    def get(self, name: str) -> Namespace:
        """Return the namespace; NotFoundError if there is none."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT record FROM namespaces WHERE name = ?", (name,)
            ).fetchone()
        if row is None:
            raise NotFoundError(f"no namespace {name[:80]}")
        return self._decode(row[0])

    def list(self) -> list[Namespace]:
        """Return every namespace, by name."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT record FROM namespaces ORDER BY name").fetchall()
        return [self._decode(record) for (record,) in rows]

    def remove(self, name: str) -> None:
        """Forget the namespace; NotFoundError if there is none."""
        with self._database.write() as connection:
            done = connection.execute("DELETE FROM namespaces WHERE name = ?", (name,))
        if done.rowcount == 0:
            raise NotFoundError(f"no namespace {name[:80]}")


def _row(namespace: Namespace) -> tuple[str, bytes]:
    return namespace.name, msgspec.json.encode(namespace)
