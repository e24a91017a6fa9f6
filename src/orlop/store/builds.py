"""The cache of builds: what a step has made, by a digest of all that went into it."""

import time

import msgspec

from orlop.model.digest import DiffID
from orlop.model.image import Descriptor
from orlop.store.database import Database

_SEEN_AGAIN_NS = 60 * 1_000_000_000  # how exact the time of the last use is


class BuildRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of one step: a layer; or of a whole build: the manifest of an image."""

    key: str  # hex
    blob: Descriptor
    diff_id: DiffID | None = None  # of the layer; None: *blob* is a manifest
    created: str = ""  # the time that the image's history has for the step
    created_ns: int = 0
    used_ns: int = 0
    uses: int = 0
    what: str = ""  # the instruction
    place: str = ""  # digest of what stays the same when an input changes
    inputs: dict[str, str] = {}  # what went into the key, by name


class Builds:
    """Records of the cache, by key."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._decode = msgspec.json.Decoder(BuildRecord).decode

    def put(self, record: BuildRecord) -> None:
        """Add a record. Its blob, and the layer if it is one, are stored already."""
        row = (record.key, record.place, msgspec.json.encode(record))
        with self._database.write(adds=True) as connection:
            connection.execute("INSERT OR REPLACE INTO builds VALUES (?, ?, ?)", row)

    def find(self, key: str) -> BuildRecord | None:
        """Return the record of this key, and note that it was used."""
        with self._database.read() as connection:
            row = connection.execute("SELECT record FROM builds WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        record = self._decode(row[0])
        now_ns = time.time_ns()
        if now_ns - record.used_ns > _SEEN_AGAIN_NS and not self._database.is_read_only:
            self.put(msgspec.structs.replace(record, used_ns=now_ns, uses=record.uses + 1))
        return record

    def at(self, place: str) -> list[BuildRecord]:
        """Return the records of the same instruction of the same file, newest first."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT record FROM builds WHERE place = ?", (place,)
            ).fetchall()
        found = [self._decode(record) for (record,) in rows]
        return sorted(found, key=lambda record: record.created_ns, reverse=True)

    def list(self) -> list[BuildRecord]:
        """Return every record."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT record FROM builds").fetchall()
        return [self._decode(record) for (record,) in rows]

    def remove(self, key: str) -> None:
        """Forget the record; one that is gone is no error."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM builds WHERE key = ?", (key,))
