"""What one layer may cost, counted as it streams by: a few bytes can ask for millions of folders.

The defaults are several times what the largest known images need (500,000 files, 60 GB, names
of 60 MB, 40 folders deep). docs/decisions/hostile-layers.md.
"""

import os
import time
from collections.abc import Mapping
from typing import Literal, NamedTuple

from orlop.errors import ExhaustedError, InvalidArgumentError
from orlop.layers.header import FILE, FOLDER, SYMLINK, Entry
from orlop.layers.tar import Stream
from orlop.store.space import Space

_BLOCK = 4096  # what most file systems give out
_INODE = 512
_SHORT_LINK = 59  # held in the inode, as ext4 does
What = Literal["layer", "archive", "image"]
_HINTS: Mapping[What, str] = {
    "layer": "if you trust the image, raise {} in ORLOP_LAYER_BUDGET of the engine",
    "image": "if you trust it, raise {} in ORLOP_LAYER_BUDGET of the engine",
    "archive": "copy it in parts",
}


class Budget(NamedTuple):
    """The most that one layer may ask for. More is an ExhaustedError that names the budget."""

    entries: int = (
        2_000_000  # files, folders, links and removals; folders that are only implied too
    )
    depth: int = 256  # folders inside each other
    path_bytes: int = 256 << 20  # of all names together, each from the root
    bytes: int = 128 << 30  # of the uncompressed tar, and on the disk
    file_bytes: int = 1 << 43  # of one file, holes included: ext4 could hold 1 << 44
    processor_s: int = 3600
    memory_bytes: int = 2 << 30  # of the process that unpacks


DEFAULT = Budget()


def parse_budget(text: str) -> Budget:
    """Return the default budget changed as *text*, `entries=4000000,depth=512`, says."""
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
    """What a layer, an archive or a stack of layers has asked for so far.

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
        """Return *stream*, with what is read from it counted."""
        return Metered(stream, self)

    def read(self, count: int) -> None:
        """Count bytes of the tar, and look at the clock."""
        self._tar_bytes += count
        self._check("bytes", self._tar_bytes, "more than {:,} bytes")
        self.tick()

    def tick(self) -> None:
        """Check the time; to be called often while nothing is read."""
        if time.thread_time() > self._end_s:
            self._refuse("processor_s", "more than {:,} s of processor time")

    def entry(self, entry: Entry, path: bytes) -> None:
        """Count a member of the tar that is to be at *path*."""
        self._check("file_bytes", entry.size, "a file of more than {:,} bytes")
        self._count(path)
        self._takes(_INODE + _disk_bytes(entry))

    def folder(self, path: bytes) -> None:
        """Count a folder at *path* that the tar only implies."""
        self._count(path)
        self._takes(_INODE + _BLOCK)

    def place(self, path: bytes) -> None:
        """Check how deep *path* is. Links may have led to it, so that its name did not tell."""
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
    """Return the error that says that more than the *name* of the *budget* is needed."""
    most = getattr(budget, name)
    return ExhaustedError(f"{of} needs {what.format(most)}", hint=_HINTS[of].format(name))


class Metered:
    """A stream whose bytes an account counts."""

    def __init__(self, stream: Stream, account: Account) -> None:
        self._stream = stream
        self._account = account

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self._account.read(len(data))
        return data


def _disk_bytes(entry: Entry) -> int:
    """Return what an entry takes beside its inode, in whole blocks."""
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
