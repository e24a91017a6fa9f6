"""Disk space kept for the metadata, so that records still change when a container fills the disk.

    metadata.db           has free pages in it, which a record that grows takes
    metadata.db-wal       is as long as it ever becomes, so that nothing is allocated to write it
    metadata.db-reserve   the same file between two engines: SQLite removes the one above at its end

Where a file system copies what is overwritten (btrfs), this is no guarantee.
"""

import os
from contextlib import suppress
from pathlib import Path
from sqlite3 import Connection

#: Frames after which SQLite copies the log into the database and begins it anew (its default).
CHECKPOINT_PAGES = 1000
#: Pages that are free in the database after it was enlarged, and what it may come down to.
FREE_PAGES = 256
LEAST_FREE_PAGES = 64

_PAGE = 4096
_FRAME_BYTES = _PAGE + 24  # sqlite.org/fileformat.html, "WAL Frame Header"
_HEADER_BYTES = 32
_LOG_BYTES = _HEADER_BYTES + (CHECKPOINT_PAGES + FREE_PAGES + LEAST_FREE_PAGES) * _FRAME_BYTES
_READ_WRITE = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW


def bring_back(database: Path) -> None:
    """Let the log of a database that is not open be the file that keep() has kept."""
    log, kept = _log(database), _kept(database)
    if log.exists():  # of a process that was killed: it has what is not in the database yet
        kept.unlink(missing_ok=True)
        return
    with suppress(FileNotFoundError):
        _blank(kept)
        kept.rename(log)


def keep(database: Path) -> None:
    """Keep the log's space when SQLite removes it at the end of its last connection."""
    with suppress(OSError):  # the next engine makes it anew if there is space
        _kept(database).unlink(missing_ok=True)
        os.link(_log(database), _kept(database))


def is_low(connection: Connection) -> bool:
    """Whether the database has few free pages left."""
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    return bool(free < LEAST_FREE_PAGES)


def enlarge(connection: Connection) -> None:
    """Add free pages to the database, on the disk and not as holes in the file.

    For this they are written, as zeros: freed pages are not, unless deletion is "secure".
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
    """Allocate all that the log of an open database may need. Zeros after its end mean nothing."""
    fd = os.open(_log(database), _READ_WRITE)
    try:
        os.posix_fallocate(fd, 0, _LOG_BYTES)
    finally:
        os.close(fd)


def _blank(log: Path) -> None:
    """Let the log say that it is empty: what it holds is in the database, and may be old."""
    fd = os.open(log, _READ_WRITE)
    try:
        os.pwrite(fd, bytes(_HEADER_BYTES), 0)
    finally:
        os.close(fd)


def _log(database: Path) -> Path:
    return database.with_name(database.name + "-wal")


def _kept(database: Path) -> Path:
    return database.with_name(database.name + "-reserve")
