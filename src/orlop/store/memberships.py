"""The state of networks shared with other hosts that this host has to remember."""

import msgspec

from orlop.model.overlay import Membership
from orlop.store.database import Database


class Memberships:
    """Stored by this host's member id. Changes survive a power failure: other hosts rely on it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._decode = msgspec.json.Decoder(Membership).decode

    def put(self, membership: Membership) -> None:
        with self._database.write(durable=True) as connection:
            connection.execute(
                "INSERT OR REPLACE INTO memberships VALUES (?, ?)",
                (membership.me, msgspec.json.encode(membership)),
            )

    def remove(self, me: str) -> None:
        """Remove it; one already gone is no error."""
        with self._database.write(durable=True) as connection:
            connection.execute("DELETE FROM memberships WHERE me = ?", (me,))

    def list(self) -> list[Membership]:
        with self._database.read() as connection:
            rows = connection.execute("SELECT record FROM memberships").fetchall()
        return [self._decode(record) for (record,) in rows]
