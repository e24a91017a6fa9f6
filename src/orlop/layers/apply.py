"""Unpack a layer's tar to a tree of files. OCI image-spec layer.md, "Applying Changesets"."""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Protocol

from orlop.errors import CorruptError
from orlop.kernel.paths import change_mode
from orlop.layers.budget import DEFAULT, Account, Budget
from orlop.layers.folders import OPAQUE, Folders, is_whiteout
from orlop.layers.header import (
    BLOCK_DEVICE,
    CHAR,
    FIFO,
    FILE,
    FOLDER,
    LINK,
    SYMLINK,
    Entry,
    clean,
)
from orlop.layers.tar import Stream, TarReader

WHITEOUT = b".wh."
OPAQUE_WHITEOUT = b".wh..wh..opq"
META_WHITEOUT = b".wh..wh."

#: Attributes that only the host may set: overlay's own marks, and labels of its policy.
REFUSED_XATTRS = ("trusted.overlay.", "user.overlay.", "security.selinux", "system.nfs4_acl")
#: The kernel's errors for names and targets that no file can have.
_IMPOSSIBLE = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ENOENT)
_SPECIAL = {CHAR: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK, FIFO: stat.S_IFIFO}
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Applied(NamedTuple):
    """What we learned while applying a layer."""

    implicit: frozenset[bytes]  # folders that had to be made without an entry in the layer
    marked: frozenset[bytes]  # folders with whiteouts
    root_given: bool  # whether the layer has an entry for its root
    entries: int
    file_bytes: int


class Marks(Protocol):
    """How a removal is recorded."""

    def whiteout(self, folders: Folders, parent: bytes, name: bytes) -> None: ...

    def opaque(self, folders: Folders, path: bytes) -> None: ...


class OverlayMarks:
    """Record removals as overlay's whiteouts and opaque folders: the tree is still a layer."""

    def whiteout(self, folders: Folders, parent: bytes, name: bytes) -> None:
        fd = folders.open(parent)
        try:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=fd)
        except FileExistsError:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):  # made by this layer, not by one below
                self.opaque(folders, parent + b"/" + name if parent else name)

    def opaque(self, folders: Folders, path: bytes) -> None:
        os.setxattr(folders.open(path), OPAQUE, b"y")


class FlatMarks:
    """Carry out removals: the tree already has the files of the layers below."""

    def __init__(self) -> None:
        self.own: set[bytes] = set()  # files that this layer has added stay

    def whiteout(self, folders: Folders, parent: bytes, name: bytes) -> None:
        path = parent + b"/" + name if parent else name
        if path in self.own:
            self._clear(folders, path)
        elif folders.existing(parent) is not None:
            folders.remove(parent, name)
            folders.forget()

    def opaque(self, folders: Folders, path: bytes) -> None:
        if folders.existing(path) is not None:
            self._clear(folders, path)

    def _clear(self, folders: Folders, path: bytes) -> None:
        fd = folders.existing(path)
        if fd is None:
            return
        for name in os.listdir(fd):
            inner = path + b"/" + os.fsencode(name) if path else os.fsencode(name)
            if inner in self.own:
                if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                    self._clear(folders, inner)
                    fd = folders.open(path)
            else:
                folders.remove(path, os.fsencode(name))
        folders.forget()


def apply(stream: Stream, root: int, *, flat: bool = False, budget: Budget = DEFAULT) -> Applied:
    """Write the layer in *stream* into the folder *root*, a descriptor.

    *flat* applies it to a tree with the layers below; otherwise *root* is empty and
    becomes a layer for overlay. Raises CorruptError for an invalid archive,
    ExhaustedError beyond the *budget*, OSError if the kernel refuses. After an error the
    caller removes the incomplete tree; no file in it is half-written.
    """
    account = Account(budget, fd=root)
    unpacker = Unpacker(root, account, flat=flat)
    try:
        reader = TarReader(account.metered(stream))
        for entry in reader:
            unpacker.take(entry, reader)
        return unpacker.finish()
    finally:
        unpacker.close()


class Unpacker:
    """Writes a layer entry by entry; see apply(). After the last: finish(), always: close().

    Without *whiteouts* the tar is not a layer: names that begin with `.wh.` are ordinary
    names, and the root may have other mounts inside it. A layer says what it changes, and
    so do entries that *keeps_times*: folders that get new files keep their times.
    """

    def __init__(
        self,
        root: int,
        account: Account,
        *,
        flat: bool = False,
        whiteouts: bool = True,
        keeps_times: bool = False,
    ) -> None:
        self._folders = Folders(root, mounts=not whiteouts, making=account.folder)
        self._account = account
        self._marked: set[bytes] = set()
        self._root_given = False
        self._file_bytes = 0
        self._root = root
        marks = FlatMarks() if flat else OverlayMarks()
        self._marks: Marks = marks
        self._whiteouts = whiteouts
        self._keeps_times = whiteouts or keeps_times
        self._own = marks.own if isinstance(marks, FlatMarks) else None
        self._times: dict[bytes, int] = {}  # of folders, set after the last file is added to them
        self._make: dict[bytes, Callable[[Entry, bytes, bytes, int], None]] = {
            SYMLINK: self._symlink,
            LINK: self._link,
            CHAR: self._special,
            BLOCK_DEVICE: self._special,
            FIFO: self._special,
        }

    def take(self, entry: Entry, reader: TarReader) -> None:
        """Write the entry, with its data from *reader*. CorruptError if no file can be like it."""
        try:
            self._take(entry, reader)
        except OSError as error:
            if error.errno in _IMPOSSIBLE:
                raise CorruptError(f"layer has a file that cannot be: {error.strerror}") from error
            raise

    def finish(self) -> Applied:
        """Set what has to be set last, and return what we learned."""
        self._set_times()
        implicit = frozenset(self._folders.implicit)
        marked = frozenset(self._marked)
        entries = self._account.entries
        return Applied(implicit, marked, self._root_given, entries, self._file_bytes)

    def close(self) -> None:
        self._folders.close()

    def _take(self, entry: Entry, reader: TarReader) -> None:
        path = clean(entry.name)
        self._account.entry(entry, path)
        parent, _, name = path.rpartition(b"/")
        if self._whiteouts and name.startswith(WHITEOUT):
            self._removal(parent, name)
        elif entry.kind == FILE:
            self._file(entry, parent, name, reader)
        elif entry.kind == FOLDER:
            self._folder(entry, path, parent, name)
        else:
            self._other(entry, parent, name)
        if self._own is not None:
            self._own.add(path)

    def _removal(self, parent: bytes, name: bytes) -> None:
        if name == OPAQUE_WHITEOUT:
            self._marks.opaque(self._folders, parent)
        elif not name.startswith(META_WHITEOUT):
            removed = name[len(WHITEOUT) :]
            if removed in (b"", b".", b".."):
                raise CorruptError(f"layer has a whiteout of {os.fsdecode(removed)!r}")
            self._marks.whiteout(self._folders, parent, removed)
            self._marked.add(parent)

    def _file(self, entry: Entry, parent: bytes, name: bytes, reader: TarReader) -> None:
        fd = self._create(entry, parent, name)
        try:
            self._fill(fd, entry, reader)
        except BaseException:
            with suppress(OSError):  # remove it: half a file is worse than none
                os.unlink(name, dir_fd=self._folders.open(parent))
            raise
        finally:
            os.close(fd)
        self._file_bytes += entry.stored

    def _fill(self, fd: int, entry: Entry, reader: TarReader) -> None:
        if entry.sparse is not None:
            _write_sparse(fd, entry, reader)
        else:
            for piece in reader.pieces(entry.stored):
                written = os.write(fd, piece)
                while written < len(piece):
                    written += os.write(fd, piece[written:])
        os.fchown(fd, entry.uid, entry.gid)
        if entry.xattrs:
            _set_xattrs(fd, entry)
        os.fchmod(fd, entry.mode)
        os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))

    def _create(self, entry: Entry, parent: bytes, name: bytes) -> int:
        if not name:
            raise CorruptError(f"layer has a file named {os.fsdecode(entry.name)!r}")
        folder = self._folders.open(parent)
        try:
            return os.open(name, _NEW_FILE, 0o600, dir_fd=folder)
        except FileExistsError:
            self._remove(parent, name)
        return os.open(name, _NEW_FILE, 0o600, dir_fd=self._folders.open(parent))

    def _folder(self, entry: Entry, path: bytes, parent: bytes, name: bytes) -> None:
        if not name:
            fd = self._root
            self._root_given = True
        else:
            fd = self._make_folder(path, parent, name)
        os.fchown(fd, entry.uid, entry.gid)
        if entry.xattrs:
            _set_xattrs(fd, entry)
        os.fchmod(fd, entry.mode)
        self._times[path] = entry.mtime_ns

    def _make_folder(self, path: bytes, parent: bytes, name: bytes) -> int:
        folder = self._folders.open(parent)
        replaced = False
        try:
            os.mkdir(name, 0o700, dir_fd=folder)
        except FileExistsError:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            replaced = not stat.S_ISDIR(status.st_mode)
            if replaced:
                self._remove(parent, name)
                folder = self._folders.open(parent)
                os.mkdir(name, 0o700, dir_fd=folder)
        fd = os.open(name, _OPEN_FOLDER, dir_fd=folder)
        self._folders.remember(path, fd)
        true_path = self._folders.true_path(fd)
        self._account.place(true_path)
        if replaced and self._own is None:
            os.setxattr(fd, OPAQUE, b"y")  # the removed file hid folders below it
        self._folders.implicit.discard(true_path)
        return fd

    def _other(self, entry: Entry, parent: bytes, name: bytes) -> None:
        """Make a special file, replacing an existing file."""
        if not name:
            raise CorruptError(f"layer has a link or device named {os.fsdecode(entry.name)!r}")
        make = self._make[entry.kind]
        try:
            make(entry, parent, name, self._folders.open(parent))
        except FileExistsError:
            self._remove(parent, name)
            make(entry, parent, name, self._folders.open(parent))

    def _symlink(self, entry: Entry, parent: bytes, name: bytes, folder: int) -> None:
        os.symlink(entry.link, name, dir_fd=folder)
        os.chown(name, entry.uid, entry.gid, dir_fd=folder, follow_symlinks=False)
        self._finish(entry, name, folder)

    def _special(self, entry: Entry, parent: bytes, name: bytes, folder: int) -> None:
        device = 0 if entry.kind == FIFO else os.makedev(entry.major, entry.minor)
        os.mknod(name, _SPECIAL[entry.kind] | 0o600, device, dir_fd=folder)
        os.chown(name, entry.uid, entry.gid, dir_fd=folder, follow_symlinks=False)
        change_mode(name, entry.mode, dir_fd=folder)
        self._finish(entry, name, folder)

    def _finish(self, entry: Entry, name: bytes, folder: int) -> None:
        if entry.xattrs:
            _set_xattrs(b"/proc/self/fd/%d/%s" % (folder, name), entry)
        times = (entry.mtime_ns, entry.mtime_ns)
        os.utime(name, ns=times, dir_fd=folder, follow_symlinks=False)

    def _link(self, entry: Entry, parent: bytes, name: bytes, folder: int) -> None:
        target = clean(entry.link)
        if target == (parent + b"/" + name if parent else name):
            return
        target_parent, _, target_name = target.rpartition(b"/")
        source = self._folders.existing(target_parent)
        if source is None or not target_name or is_whiteout(target_name, source):
            raise _no_target(entry)
        try:
            os.link(
                target_name,
                name,
                src_dir_fd=source,
                dst_dir_fd=self._folders.open(parent),
                follow_symlinks=False,
            )
        except (FileNotFoundError, PermissionError) as error:
            raise _no_target(entry) from error

    def _remove(self, parent: bytes, name: bytes) -> None:
        self._folders.remove(parent, name)
        path = parent + b"/" + name if parent else name
        if self._times.pop(path, None) is not None:
            below = path + b"/"
            self._times = {p: t for p, t in self._times.items() if not p.startswith(below)}
        self._folders.forget()  # a path through it may now lead elsewhere

    def _set_times(self) -> None:
        for path in self._folders.implicit:
            self._times.setdefault(path, 0)
        if self._own is None and not self._root_given:
            self._times[b""] = 0
        elif self._own is not None and self._keeps_times:
            self._times = {**self._folders.times, **self._times}
        for path, mtime_ns in self._times.items():
            fd = self._folders.existing(path)
            if fd is not None:
                os.utime(fd, ns=(mtime_ns, mtime_ns))


def _no_target(entry: Entry) -> CorruptError:
    shown = os.fsdecode(entry.link[:200])
    return CorruptError(f"layer has a hard link to {shown!r}, which it lacks")


def _write_sparse(fd: int, entry: Entry, reader: TarReader) -> None:
    assert entry.sparse is not None
    os.ftruncate(fd, entry.size)
    for offset, size in entry.sparse:
        for piece in reader.pieces(size):
            while piece:
                written = os.pwrite(fd, piece, offset)
                offset += written
                piece = piece[written:]


def _set_xattrs(target: int | bytes, entry: Entry) -> None:
    """Set the entry's attributes that images may set and that the host supports."""
    assert entry.xattrs is not None
    for name, value in entry.xattrs.items():
        if name.startswith(REFUSED_XATTRS):
            continue
        try:
            os.setxattr(target, name, value, follow_symlinks=isinstance(target, int))
        except OSError as error:
            if not _may_miss(error, name, entry):
                raise


def _may_miss(error: OSError, name: str, entry: Entry) -> bool:
    """Whether the error is acceptable: this file system or kind of file has none. xattr(7)."""
    if error.errno in (errno.ENOTSUP, errno.EINVAL):
        return True
    return (
        error.errno == errno.EPERM and name.startswith("user.") and entry.kind not in (FILE, FOLDER)
    )
