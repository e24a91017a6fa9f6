"""The SQLite file below the metadata: one connection, whole transactions, a version.

WAL with synchronous=NORMAL: a killed process loses nothing; a power failure may
lose the last transactions but never tears one (sqlite.org/wal.html). The file is
this process's alone, so that SQLite needs no third file, for which there may be no space.
"""

import errno
import logging
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from orlop.errors import (
    CorruptError,
    ExhaustedError,
    OrlopError,
    UnavailableError,
    UnsupportedError,
    WrongStateError,
)
from orlop.store import reserve
from orlop.store.faults import explained, fault

log = logging.getLogger(__name__)

#: Each entry takes the schema from version n to n + 1; entries are only ever added.
MIGRATIONS: Sequence[str] = (
    """
    CREATE TABLE images (name TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE containers (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, record BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE volumes (name TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE layers (
        driver TEXT, key TEXT, size INTEGER NOT NULL, created_ns INTEGER NOT NULL,
        PRIMARY KEY (driver, key)) WITHOUT ROWID;
    CREATE TABLE snapshots (
        name TEXT PRIMARY KEY, driver TEXT NOT NULL, layers TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE leases (
        id TEXT PRIMARY KEY, what TEXT NOT NULL, created_ns INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE leased (
        lease TEXT REFERENCES leases (id) ON DELETE CASCADE, digest TEXT,
        PRIMARY KEY (lease, digest)) WITHOUT ROWID;
    """,
    """
    CREATE TABLE networks (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, record BLOB NOT NULL) WITHOUT ROWID;
    """,
    """
    CREATE TABLE memberships (me TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
    """,
    """
    DROP TABLE snapshots;
    DROP TABLE leased;
    DROP TABLE leases;
    """,
    """
    CREATE TABLE namespaces (name TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
    """,
    """
    CREATE TABLE objects (
        namespace TEXT, kind TEXT, key TEXT, record BLOB NOT NULL,
        PRIMARY KEY (namespace, kind, key)) WITHOUT ROWID;
    """,
    """
    CREATE TABLE builds (
        key TEXT PRIMARY KEY, place TEXT NOT NULL, record BLOB NOT NULL) WITHOUT ROWID;
    CREATE INDEX builds_by_place ON builds (place);
    """,
)

_MEANING: dict[int, tuple[type[OrlopError], str]] = {
    sqlite3.SQLITE_FULL: (ExhaustedError, "no space left to write the metadata"),
    sqlite3.SQLITE_IOERR: (ExhaustedError, "the disk refused to write the metadata"),
    sqlite3.SQLITE_READONLY: (WrongStateError, "cannot write the metadata: the disk is read-only"),
    sqlite3.SQLITE_CANTOPEN: (WrongStateError, "cannot open the metadata"),
    sqlite3.SQLITE_CORRUPT: (CorruptError, "the metadata is damaged"),
    sqlite3.SQLITE_NOTADB: (CorruptError, "the metadata is damaged"),
    sqlite3.SQLITE_BUSY: (UnavailableError, "the metadata is in use by another process"),
    sqlite3.SQLITE_LOCKED: (UnavailableError, "the metadata is in use by another process"),
}


class Database:
    """One connection, shared by threads: a lock makes each transaction one at a time."""

    def __init__(self, path: Path, *, spare: Path | None = None) -> None:
        """Open or make the database; UnsupportedError if a newer Orlop made it.

        If its disk is read-only a copy of it in the folder *spare* is read, and
        nothing can be written.
        """
        self._path = path
        self._lock = threading.Lock()
        self._has_reserve = False
        self.is_read_only = False
        with explained(f"the metadata {path}"):
            opened = self._found(path, spare)
        with self._explained():
            self._connection = sqlite3.connect(
                opened, isolation_level=None, check_same_thread=False, cached_statements=256
            )
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise
        if self.is_read_only:
            return
        try:
            with self._lock, self._explained():
                self._replenish()
        except ExhaustedError as error:
            log.warning("no space to keep a reserve for the metadata", extra={"why": str(error)})

    def _found(self, path: Path, spare: Path | None) -> Path:
        """Return the file to open: *path*, or its copy if it cannot be written."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            # SQLite says only "unable to open" of what the kernel has good words for
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            reserve.bring_back(path)
        except OSError as error:
            if error.errno != errno.EROFS or spare is None or not path.exists():
                raise
            self.is_read_only = True
            return _copied(path, spare)
        return path

    def close(self) -> None:
        """Close; what was committed is in the file."""
        with self._lock:
            if self._has_reserve:
                reserve.keep(self._path)
            self._connection.close()

    @property
    def has_reserve(self) -> bool:
        """Whether records can still be changed and removed when the disk is full."""
        return self._has_reserve

    @contextmanager
    def write(self, *, durable: bool = False, adds: bool = False) -> Iterator[sqlite3.Connection]:
        """Hold one transaction: all that is done inside becomes true, or none of it.

        A *durable* one survives a power failure, as do all before it. One that *adds*
        records is refused where it would take the space that is kept for other changes.
        """
        if self.is_read_only:
            raise self._refusal()
        with self._lock, self._explained():
            if adds:
                self._replenish()
            if durable:
                self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                if durable:
                    self._connection.execute("PRAGMA synchronous = NORMAL")

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Hold the connection for one statement that only reads."""
        with self._lock, self._explained():
            yield self._connection

    def _prepare(self) -> None:
        with self._lock, self._explained():
            self._connection.execute("PRAGMA busy_timeout = 2000")
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute("PRAGMA foreign_keys = ON")
            self._connection.execute(f"PRAGMA wal_autocheckpoint = {reserve.CHECKPOINT_PAGES}")
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise UnsupportedError(
                f"{self._path} is of version {version}, this Orlop knows up to {len(MIGRATIONS)}",
                hint="use the newer Orlop that made it",
            )
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            with self.write() as connection:
                for statement in script.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number}")

    def _refusal(self) -> WrongStateError:
        return WrongStateError(
            f"cannot write the metadata: the disk is read-only ({self._path})",
            hint="mount it writable, and start the engine again",
        )

    def _replenish(self) -> None:
        """See to the space that changes need later. ExhaustedError where there is none."""
        try:
            if not self._has_reserve:
                reserve.lengthen_log(self._path)
            if reserve.is_low(self._connection):
                self._has_reserve = False
                reserve.enlarge(self._connection)
        except OSError as error:
            known = fault(error, f"the metadata {self._path}")
            if isinstance(known, ExhaustedError):
                raise known from error
            log.warning("no reserve can be kept for the metadata", extra={"why": str(error)})
        self._has_reserve = True

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise what SQLite refuses in the words of the domain. IntegrityError passes."""
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.DatabaseError as error:
            known = _MEANING.get((error.sqlite_errorcode or 0) & 0xFF)
            if known is None:
                raise
            cls, text = known
            raise cls(f"{text} ({self._path})") from error


def _copied(path: Path, folder: Path) -> Path:
    """Copy a database that nobody has open, and its log, to *folder*; return the copy."""
    copy = folder / f"{path.name}-copy"
    for end in ("", "-wal"):
        target = copy.with_name(copy.name + end)
        target.unlink(missing_ok=True)
        if (source := path.with_name(path.name + end)).exists():
            shutil.copyfile(source, target)
            target.chmod(0o600)
    return copy
