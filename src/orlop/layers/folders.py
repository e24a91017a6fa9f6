"""The open folders of a tree that is being written, so that no path is resolved twice.

A path is resolved only by openat2(2) with RESOLVE_IN_ROOT, and an operation in a folder
names one component and follows no link. So no entry of an archive can lead outside the
root.
"""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress

from orlop.errors import CorruptError
from orlop.kernel.paths import Resolve, openat2
from orlop.layers.removal import remove_tree

_RESOLVE = int(Resolve.IN_ROOT | Resolve.NO_MAGICLINKS)
_ONE_MOUNT = int(Resolve.NO_XDEV)
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_OPEN = 128
_MOST_LINKS = 40

OPAQUE = "trusted.overlay.opaque"


class Folders:
    """Open folders below *root* by path. close() closes them, not the root.

    With *mounts* those too that are on other mounts: the volumes of a container.
    *making* is called with the true path of each folder that open() has to make, and
    may raise.
    """

    def __init__(
        self,
        root: int,
        *,
        mounts: bool = False,
        making: Callable[[bytes], None] = lambda path: None,
    ) -> None:
        self._root = root
        self._making = making
        self._resolve = _RESOLVE if mounts else _RESOLVE | _ONE_MOUNT
        self._open: dict[bytes, int] = {b"": root}
        self.implicit: set[bytes] = set()  # made because a file in them was named
        self.times = {b"": os.fstat(root).st_mtime_ns}  # of folders when first opened, nanoseconds

    def open(self, path: bytes) -> int:
        """Return a descriptor of the folder at *path*, made if missing; it stays ours.

        Valid until the next call of open() or forget().
        """
        fd = self._open.get(path)
        if fd is None:
            fd = self._open_or_make(path)
            self.remember(path, fd)
            if path not in self.times:
                self.times[path] = os.fstat(fd).st_mtime_ns
        return fd

    def existing(self, path: bytes) -> int | None:
        """Like open(), but return None if the folder does not exist."""
        fd = self._open.get(path)
        if fd is None:
            fd = self._try_open(path)
            if fd is not None:
                self.remember(path, fd)
        return fd

    def remember(self, path: bytes, fd: int) -> None:
        """Take over *fd*, which is open at *path*."""
        if len(self._open) >= _MOST_OPEN:
            self.forget()
        if path in self._open:
            os.close(self._open.pop(path))
        self._open[path] = fd

    def forget(self) -> None:
        """Close all; necessary when a path may lead elsewhere than before."""
        del self._open[b""]
        for fd in self._open.values():
            os.close(fd)
        self._open = {b"": self._root}

    close = forget

    def remove(self, parent: bytes, name: bytes) -> None:
        """Remove *name* in the folder *parent*, with everything below it."""
        fd = self.open(parent)
        try:
            os.unlink(name, dir_fd=fd)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            self._remove_folder(parent, name, fd)

    def _remove_folder(self, parent: bytes, name: bytes, fd: int) -> None:
        remove_tree(name, dir_fd=fd)
        path = parent + b"/" + name if parent else name
        self.implicit = {
            made for made in self.implicit if made != path and not made.startswith(path + b"/")
        }

    def true_path(self, fd: int) -> bytes:
        """Return the path of the open folder *fd* below the root, links resolved."""
        root = os.readlink(b"/proc/self/fd/%d" % self._root)
        return os.readlink(b"/proc/self/fd/%d" % fd)[len(root) :].strip(b"/")

    def _try_open(self, path: bytes) -> int | None:
        flags = os.O_RDONLY | os.O_DIRECTORY
        try:
            return openat2(self._root, os.fsdecode(path or b"."), flags, resolve=self._resolve)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.EXDEV, errno.ENAMETOOLONG):
                raise _not_a_folder(path) from error
            raise

    def _open_or_make(self, path: bytes) -> int:
        for _ in range(_MOST_LINKS):
            try:
                fd = self._try_open(path)
            except CorruptError:
                if not self._lift_whiteout(path):
                    raise
                continue
            if fd is not None:
                return fd
            path = self._make(path)
        raise _not_a_folder(path)

    def _make(self, path: bytes) -> bytes:
        """Make the first missing folder on the way to *path*; return its true path."""
        parts = path.split(b"/")
        parent = os.dup(self._root)
        try:
            for index, part in enumerate(parts):
                following = self._try_open(b"/".join(parts[: index + 1]))
                if following is None:
                    link = _link(part, parent)
                    if link is not None:
                        base = [] if link.startswith(b"/") else parts[:index]
                        return _lexical([*base, *link.split(b"/"), *parts[index + 1 :]])
                    following = self._make_one(part, parent)
                os.close(parent)
                parent = following
        finally:
            os.close(parent)
        return path

    def _make_one(self, name: bytes, parent: int) -> int:
        above = self.true_path(parent)
        path = above + b"/" + name if above else name
        self._making(path)
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise _not_a_folder(name) from error
            raise
        fd = os.open(name, _OPEN_FOLDER, dir_fd=parent)
        inherited = os.fstat(fd).st_mode & stat.S_ISGID  # inode(7); other engines keep it too
        os.fchmod(fd, 0o755 | inherited)
        self.implicit.add(path)
        return fd

    def _lift_whiteout(self, path: bytes) -> bool:
        """Turn the first whiteout on the way to *path* into an opaque folder; False if none."""
        parts = path.split(b"/")
        for index, part in enumerate(parts):
            parent = self._try_open(b"/".join(parts[:index]))
            if parent is None:
                return False
            try:
                if is_whiteout(part, parent):
                    os.unlink(part, dir_fd=parent)
                    fd = self._make_one(part, parent)
                    os.setxattr(fd, OPAQUE, b"y")
                    os.close(fd)
                    return True
                if _link(part, parent) is None and not _is_folder(part, parent):
                    return False
            finally:
                os.close(parent)
        return False


def is_whiteout(name: bytes, parent: int) -> bool:
    """Whether *name* in the folder *parent* is overlay's mark for a removed file."""
    with suppress(FileNotFoundError):
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
    return False


def _is_folder(name: bytes, parent: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


def _link(name: bytes, parent: int) -> bytes | None:
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINVAL):
            return None
        if error.errno == errno.ENAMETOOLONG:
            raise _not_a_folder(name) from error
        raise


def _lexical(parts: list[bytes]) -> bytes:
    kept: list[bytes] = []
    for part in parts:
        if part == b"..":
            del kept[-1:]
        elif part not in (b"", b"."):
            kept.append(part)
    return b"/".join(kept)


def _not_a_folder(path: bytes) -> CorruptError:
    shown = os.fsdecode(path[:200])
    return CorruptError(f"layer puts a file below {shown!r}, which cannot be a folder")
