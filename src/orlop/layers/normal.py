"""Rewrite a layer's tar so that all readers understand it in the same way.

mkfs.erofs(1) indexes a tar. Version 1.8 misreads fractions of seconds and does not know
sparse files, and it should not parse untrusted input. So it gets a tar that we have
written, and only for *plain* layers: no name twice, no holes, no unusual names. All
layers made by engines are plain. Other layers are unpacked by apply.py.
"""

from typing import BinaryIO

from orlop.layers.apply import (
    META_WHITEOUT,
    OPAQUE_WHITEOUT,
    REFUSED_XATTRS,
    WHITEOUT,
    Applied,
    Unpacker,
)
from orlop.layers.budget import Account, Budget
from orlop.layers.header import FILE, FOLDER, LINK, SYMLINK, Entry, clean
from orlop.layers.tar import Stream, TarReader
from orlop.layers.write import TarWriter

_XATTRS = ("user.", "trusted.", "security.")
_MOST_NAME = 255
_SETGID = 0o2000


class Normal:
    """Rewrites the layer in *stream* to *out*, as far as it is plain.

    run() returns whether all of it was. If not, unpack() continues where it
    stopped: the first entry that was not plain is not lost.
    """

    def __init__(self, stream: Stream, out: BinaryIO, budget: Budget) -> None:
        self._account = Account(budget, fd=out.fileno())
        self._budget = budget
        self._reader = TarReader(self._account.metered(stream))
        self._entries = iter(self._reader)
        self._out = out
        self._writer = TarWriter(out)
        self._odd: Entry | None = None
        self._root_given = False
        self._bytes = 0
        self._files: set[bytes] = set()  # also links, devices, …
        self._folders: dict[bytes, int] = {}  # modes
        self._implicit: set[bytes] = set()
        self._whiteouts: set[bytes] = set()
        self._marked: set[bytes] = set()

    def run(self) -> bool:
        for entry in self._entries:
            self._account.entry(entry, clean(entry.name))
            if not self._accepts(entry):
                self._odd = entry
                self._out.flush()
                return False
            self._write(entry)
        self._writer.close()
        self._out.flush()
        return self._whiteouts.isdisjoint(self._files | self._folders.keys())

    def applied(self) -> Applied:
        """Return what we learned about a plain layer."""
        implicit, marked = frozenset(self._implicit), frozenset(self._marked)
        return Applied(implicit, marked, self._root_given, self._account.entries, self._bytes)

    def unpack(self, written: Stream, root: int) -> Applied:
        """Unpack what run() has *written*, without its additions, and then the rest."""
        unpacker = Unpacker(root, Account(self._budget, fd=root))
        try:
            before = TarReader(written)
            for entry in before:
                path = clean(entry.name)
                if path not in self._implicit and (path or self._root_given):
                    unpacker.take(entry, before)
            if self._odd is not None:
                unpacker.take(self._odd, self._reader)
            for entry in self._entries:
                unpacker.take(entry, self._reader)
            return unpacker.finish()
        finally:
            unpacker.close()

    def _accepts(self, entry: Entry) -> bool:
        if entry.sparse is not None or entry.mtime_ns < 0 or not _common_xattrs(entry):
            return False
        path = clean(entry.name)
        if not path:
            return entry.kind == FOLDER and not self._folders
        parent, _, name = path.rpartition(b"/")
        if max(map(len, path.split(b"/"))) > _MOST_NAME or not self._may_hold(parent):
            return False
        if name.startswith(WHITEOUT):
            return _is_simple_whiteout(name)
        if entry.kind == LINK and clean(entry.link) not in self._files:
            return False
        return path not in self._files and path not in self._folders

    def _may_hold(self, parent: bytes) -> bool:
        """Whether *parent* is a folder, or can be added as one."""
        while parent not in self._folders and parent:
            if parent in self._files or parent in self._whiteouts:
                return False
            upper, _, name = parent.rpartition(b"/")
            if name.startswith(WHITEOUT) or self._folders.get(upper, 0) & _SETGID:
                return False
            parent = upper
        return True

    def _write(self, entry: Entry) -> None:
        path = clean(entry.name)
        parent, _, name = path.rpartition(b"/")
        if path:
            self._add_folders(parent)
        else:
            self._root_given = True
        entry.name = b"./" + path + b"/" if entry.kind == FOLDER and path else b"./" + path
        if name.startswith(WHITEOUT):
            if name != OPAQUE_WHITEOUT:
                gone = name[len(WHITEOUT) :]
                self._marked.add(parent)
                self._whiteouts.add(parent + b"/" + gone if parent else gone)
            entry.kind, entry.size, entry.xattrs = FILE, 0, None
        elif entry.kind == FOLDER:
            self._folders[path] = entry.mode
        else:
            self._files.add(path)
        if entry.kind == LINK:
            entry.link = b"./" + clean(entry.link)
        elif entry.kind == SYMLINK:
            entry.mode = 0o777  # as in Linux, whatever the header says
        self._bytes += entry.size
        self._writer.add(entry, self._reader.pieces(entry.size) if entry.size else ())

    def _add_folders(self, path: bytes) -> None:
        """Write entries for folders that the layer only implies; the root too."""
        missing: list[bytes] = []
        while path not in self._folders:
            missing.append(path)
            if not path:
                break
            path = path.rpartition(b"/")[0]
        for folder in reversed(missing):
            self._account.folder(folder)
            self._folders[folder] = 0o755
            if folder:
                self._implicit.add(folder)
            name = b"./" + folder + b"/" if folder else b"./"
            self._writer.add(Entry(name, FOLDER, 0o755, 0, 0, 0, 0, 0, b"", 0, 0))


def _common_xattrs(entry: Entry) -> bool:
    return all(
        name.startswith(_XATTRS) and not name.startswith(REFUSED_XATTRS)
        for name in entry.xattrs or ()
    )


def _is_simple_whiteout(name: bytes) -> bool:
    if name == OPAQUE_WHITEOUT:
        return True
    removed = name[len(WHITEOUT) :]
    return not name.startswith(META_WHITEOUT) and removed not in (b"", b".", b"..")
