"""Disk space reserved for the metadata, so that records can change on a full disk.

    metadata.db           has free pages, which growing records use
    metadata.db-wal       has its maximum length, so that writing it allocates nothing
    metadata.db-reserve   the log between two engines: SQLite deletes it at its end

On a file system that copies overwritten data (btrfs), this is no guarantee.
"""

import os
from contextlib import suppress
from pathlib import Path
from sqlite3 import Connection

#: Frames after which SQLite copies the log into the database and starts it again (its default).
CHECKPOINT_PAGES = 1000
#: Free pages in the database after it was enlarged, and the number at which it is enlarged again.
FREE_PAGES = 256
LEAST_FREE_PAGES = 64

_PAGE = 4096
_FRAME_BYTES = _PAGE + 24  # sqlite.org/fileformat.html, "WAL Frame Header"
_HEADER_BYTES = 32
_LOG_BYTES = _HEADER_BYTES + (CHECKPOINT_PAGES + FREE_PAGES + LEAST_FREE_PAGES) * _FRAME_BYTES
_READ_WRITE = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW


def bring_back(database: Path) -> None:
    """Restore the log that keep() has kept, for a database that is not open."""
    log, kept = _log(database), _kept(database)
    if log.exists():  # of a killed process: it has changes that are not in the database yet
        kept.unlink(missing_ok=True)
        return
    with suppress(FileNotFoundError):
        _blank(kept)
        kept.rename(log)


def keep(database: Path) -> None:
    """Keep the log's space when SQLite deletes the log with its last connection."""
    with suppress(OSError):  # the next engine makes it again if there is space
        _kept(database).unlink(missing_ok=True)
        os.link(_log(database), _kept(database))


def is_low(connection: Connection) -> bool:
    """Whether the database has few free pages left."""
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    return bool(free < LEAST_FREE_PAGES)


def enlarge(connection: Connection) -> None:
    """Add free pages to the database, allocated on disk, not as holes in the file.

    They are written as zeros: freed pages are written only if deletion is "secure".
    """
    connection.execute("PRAGMA secure_delete = ON")
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE reserve (bytes BLOB)")
        connection.execute("INSERT INTO reserve VALUES (zeroblob(?))", (FREE_PAGES * _PAGE,))
        connection.execute("DROP TABLE reserve")
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.execute("PRAGMA secure_delete = OFF")


def lengthen_log(database: Path) -> None:
    """Allocate the maximum length of an open database's log. Zeros after its end are ignored."""
    fd = os.open(_log(database), _READ_WRITE)
    try:
        os.posix_fallocate(fd, 0, _LOG_BYTES)
    finally:
        os.close(fd)


def _blank(log: Path) -> None:
    """Mark the log as empty: its content is in the database, and may be old."""
    fd = os.open(log, _READ_WRITE)
    try:
        os.pwrite(fd, bytes(_HEADER_BYTES), 0)
    finally:
        os.close(fd)


def _log(database: Path) -> Path:
    return database.with_name(database.name + "-wal")


def _kept(database: Path) -> Path:
    return database.with_name(database.name + "-reserve")
