"""Limits for unpacking one layer, counted as a stream: a few bytes can ask for millions of folders.

The defaults are several times what the largest known images need (500,000 files, 60 GB, 60 MB
of names, 40 nested folders). docs/decisions/hostile-layers.md.
"""

import os
import time
from collections.abc import Mapping
from typing import Literal, NamedTuple

from orlop.errors import ExhaustedError, InvalidArgumentError
from orlop.layers.header import FILE, FOLDER, SYMLINK, Entry
from orlop.layers.tar import Stream
from orlop.store.space import Space

_BLOCK = 4096  # the allocation unit of most file systems
_INODE = 512
_SHORT_LINK = 59  # stored in the inode, as in ext4
What = Literal["layer", "archive", "image"]
_HINTS: Mapping[What, str] = {
    "layer": "if you trust the image, raise {} in ORLOP_LAYER_BUDGET of the engine",
    "image": "if you trust it, raise {} in ORLOP_LAYER_BUDGET of the engine",
    "archive": "copy it in parts",
}


class Budget(NamedTuple):
    """The limits of one layer. Exceeding one is an ExhaustedError that names it."""

    entries: int = 2_000_000  # files, folders, links and removals, including implied folders
    depth: int = 256  # nesting of folders
    path_bytes: int = 256 << 20  # length of all paths together
    bytes: int = 128 << 30  # size of the uncompressed tar, and on the disk
    file_bytes: int = 1 << 43  # size of one file, including holes: ext4 could hold 1 << 44
    processor_s: int = 3600
    memory_bytes: int = 2 << 30  # of the process that unpacks


DEFAULT = Budget()


def parse_budget(text: str) -> Budget:
    """Return the default budget with the changes in *text*, such as `entries=4000000,depth=512`."""
    changed: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        name, _, number = part.partition("=")
        if name not in Budget._fields:
            known = ", ".join(Budget._fields)
            raise InvalidArgumentError(
                f"no layer budget is named {name!r}", hint=f"there are {known}"
            )
        if not (number.isascii() and number.isdecimal()):
            raise InvalidArgumentError(f"the layer budget {name} is {number!r}, which is no number")
        changed[name] = int(number)
    return DEFAULT._replace(**changed)


class Account:
    """What a layer, an archive or a stack of layers has used so far.

    Each method raises ExhaustedError beyond the budget, or when the disk that *fd* is on is
    almost full. Used in one thread, whose time counts.
    """

    def __init__(self, budget: Budget, what: What = "layer", *, fd: int | None = None) -> None:
        self._budget = budget
        self._what = what
        self._entries = 0
        self._path_bytes = 0
        self._disk_bytes = 0
        self._tar_bytes = 0
        self._space = Space(fd, f"the {what}") if fd is not None else None
        self._end_s = time.thread_time() + budget.processor_s

    @property
    def entries(self) -> int:
        return self._entries

    def metered(self, stream: Stream) -> "Metered":
        """Return *stream*, with the bytes read from it counted."""
        return Metered(stream, self)

    def read(self, count: int) -> None:
        """Count bytes of the tar, and check the time."""
        self._tar_bytes += count
        self._check("bytes", self._tar_bytes, "more than {:,} bytes")
        self.tick()

    def tick(self) -> None:
        """Check the time; call it often while nothing is read."""
        if time.thread_time() > self._end_s:
            self._refuse("processor_s", "more than {:,} s of processor time")

    def entry(self, entry: Entry, path: bytes) -> None:
        """Count a member of the tar with the path *path*."""
        self._check("file_bytes", entry.size, "a file of more than {:,} bytes")
        self._count(path)
        self._takes(_INODE + _disk_bytes(entry))

    def folder(self, path: bytes) -> None:
        """Count a folder at *path* that the tar only implies."""
        self._count(path)
        self._takes(_INODE + _BLOCK)

    def place(self, path: bytes) -> None:
        """Check the depth of *path*, which links may have changed from the entry's name."""
        self._check("depth", path.count(b"/"), "files deeper than {:,} folders")

    def _takes(self, count: int) -> None:
        self._disk_bytes += count
        self._check("bytes", self._disk_bytes, "more than {:,} bytes")
        if self._space is not None:
            self._space.take(count, files=1)

    def _count(self, path: bytes) -> None:
        self.place(path)
        self._entries += 1
        self._check("entries", self._entries, "more than {:,} files and folders")
        self._path_bytes += len(path)
        self._check("path_bytes", self._path_bytes, "names of more than {:,} bytes")

    def _check(self, name: str, spent: int, what: str) -> None:
        if spent > getattr(self._budget, name):
            self._refuse(name, what)

    def _refuse(self, name: str, what: str) -> None:
        raise exceeded(self._budget, name, what, of=self._what)


def exceeded(budget: Budget, name: str, what: str, *, of: What = "layer") -> ExhaustedError:
    """Return the error for exceeding the limit *name* of the *budget*."""
    most = getattr(budget, name)
    return ExhaustedError(f"{of} needs {what.format(most)}", hint=_HINTS[of].format(name))


class Metered:
    """A stream whose bytes are counted."""

    def __init__(self, stream: Stream, account: Account) -> None:
        self._stream = stream
        self._account = account

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self._account.read(len(data))
        return data


def _disk_bytes(entry: Entry) -> int:
    """Return the disk space of an entry besides its inode, in whole blocks."""
    taken = 0
    if entry.kind == FOLDER:
        taken = _BLOCK
    elif entry.kind == FILE:
        taken = _blocks(entry.stored)
    elif entry.kind == SYMLINK and len(entry.link) > _SHORT_LINK:
        taken = _blocks(len(entry.link))
    if entry.xattrs:
        names = sum(len(os.fsencode(name)) + len(value) for name, value in entry.xattrs.items())
        taken += _blocks(names)
    return taken


def _blocks(count: int) -> int:
    return -(-count // _BLOCK) * _BLOCK
