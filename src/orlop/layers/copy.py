"""Copy one unpacked layer over a tree: the result is what overlay would show, in plain files."""

import errno
import fcntl
import os
import stat
from collections.abc import Container
from contextlib import suppress

from orlop.kernel.paths import change_mode, open_in_root, open_plain, open_regular
from orlop.layers.diff import walk
from orlop.layers.folders import OPAQUE, Folders

_FICLONE = 0x40049409  # <linux/fs.h>
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_SHARING = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL)
_MOST_AT_ONCE = 1 << 30
#: Overlay's attributes about a file's origin in the layers below; meaningless in a copy.
_ORIGINS = ("origin", "impure", "nlink", "upper", "uuid")


def lay_over(layer: int, tree: int, *, keep: Container[str] = ()) -> None:
    """Copy the folder *layer* over the folder *tree*, both descriptors; whiteouts delete.

    Folders in *keep* ("" is the root) are not changed if they exist, because the layer has
    no attributes for them. Data is shared if the file system supports it (reflink).
    """
    merge = _Merge(layer, tree, keep)
    try:
        for path, status in walk(layer):
            merge.one(path, status)
        merge.set_times()
    finally:
        merge.close()


def copy_upper(upper: int, target: int) -> None:
    """Copy the upper layer of an overlay, a folder, into an empty folder, both descriptors.

    With its whiteouts and opaque folders; it must not change meanwhile. Data is shared if
    the file system supports it.
    """
    merge = _Merge(upper, target, (), as_upper=True)
    try:
        for path, status in walk(upper):
            merge.one(path, status)
        merge.set_times()
    finally:
        merge.close()


def copy_folder(root: int, path: str, target: int) -> None:
    """Copy the folder *path* of the tree *root* into the folder *target*, with its attributes.

    *root* and *target* are descriptors. If *path* is missing, or not a folder, nothing is
    copied. It cannot lead outside *root*.
    """
    try:
        source = open_in_root(root, path, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        lay_over(source, target)
    finally:
        os.close(source)


class _Merge:
    def __init__(
        self, layer: int, tree: int, keep: Container[str], *, as_upper: bool = False
    ) -> None:
        self._layer = layer
        self._as_upper = as_upper  # copy overlay's marks unchanged
        self._keep = keep
        self._tree = tree
        self._folders = Folders(tree)
        self._links: dict[
            tuple[int, int], str
        ] = {}  # by inode, the first name of a file with several
        self._times: dict[str, int] = {}
        self._source_path = ""
        self._source = os.dup(layer)

    def close(self) -> None:
        os.close(self._source)
        self._folders.close()

    def one(self, path: str, status: os.stat_result) -> None:
        parent, _, name = path.rpartition("/")
        if stat.S_ISDIR(status.st_mode):
            self._folder(path, parent, name, status)
            return
        target = self._folders.open(os.fsencode(parent))
        if _exists(name, target):
            self._folders.remove(os.fsencode(parent), os.fsencode(name))
            self._folders.forget()
            target = self._folders.open(os.fsencode(parent))
        if not self._as_upper and stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            return
        if status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), path)
            if first != path:
                self._link(first, name, parent)
                return
        self._copy(name, self._open_source(parent), target, status)

    def set_times(self) -> None:
        """Set folders' times, after the last file is added to them."""
        for path, mtime_ns in self._times.items():
            fd = self._folders.open(os.fsencode(path))
            os.utime(fd, ns=(mtime_ns, mtime_ns))

    def _folder(self, path: str, parent: str, name: str, status: os.stat_result) -> None:
        source = open_plain(self._layer, path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            existed = self._make_folder(parent, name, opaque=_is_opaque(source)) if path else True
            target = self._folders.open(os.fsencode(path))
            if existed and path in self._keep:
                self._times[path] = os.fstat(target).st_mtime_ns
                return
            for xattr in os.listxattr(target):
                os.removexattr(target, xattr)
            os.fchown(target, status.st_uid, status.st_gid)
            self._copy_xattrs(f"/proc/self/fd/{source}/.", f"/proc/self/fd/{target}/.")
            os.fchmod(target, stat.S_IMODE(status.st_mode))
            self._times[path] = status.st_mtime_ns
        finally:
            os.close(source)

    def _make_folder(self, parent: str, name: str, *, opaque: bool) -> bool:
        """Make the folder unless it exists; return whether it existed and was kept."""
        target = self._folders.open(os.fsencode(parent))
        with suppress(FileNotFoundError):
            status = os.stat(name, dir_fd=target, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode) and not opaque:
                return True
            self._folders.remove(os.fsencode(parent), os.fsencode(name))
            self._folders.forget()
            target = self._folders.open(os.fsencode(parent))
        os.mkdir(name, 0o700, dir_fd=target)
        return False

    def _link(self, first: str, name: str, parent: str) -> None:
        folder, _, target = first.rpartition("/")
        source = open_plain(self._tree, folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            here = self._folders.open(os.fsencode(parent))
            os.link(target, name, src_dir_fd=source, dst_dir_fd=here, follow_symlinks=False)
        finally:
            os.close(source)

    def _open_source(self, parent: str) -> int:
        if parent != self._source_path:
            source = open_plain(self._layer, parent, os.O_RDONLY | os.O_DIRECTORY)
            os.close(self._source)
            self._source, self._source_path = source, parent
        return self._source

    def _copy(self, name: str, source: int, target: int, status: os.stat_result) -> None:
        if stat.S_ISREG(status.st_mode):
            _copy_file(name, source, target)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        else:
            os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
        self._copy_xattrs(f"/proc/self/fd/{source}/{name}", f"/proc/self/fd/{target}/{name}")
        if not stat.S_ISLNK(status.st_mode):
            change_mode(name, stat.S_IMODE(status.st_mode), dir_fd=target)
        times = (status.st_mtime_ns, status.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)

    def _copy_xattrs(self, source: str, target: str) -> None:
        for name in os.listxattr(source, follow_symlinks=False):
            mark = name.removeprefix("trusted.overlay.")
            if mark == name or (self._as_upper and mark not in _ORIGINS):
                value = os.getxattr(source, name, follow_symlinks=False)
                with suppress(PermissionError):  # labels of the host's policy
                    os.setxattr(target, name, value, follow_symlinks=False)


def _copy_file(name: str, source: int, target: int) -> None:
    reading = open_regular(name, dir_fd=source)
    try:
        writing = os.open(name, _NEW_FILE, 0o600, dir_fd=target)
        try:
            _copy_data(reading, writing)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _copy_data(reading: int, writing: int) -> None:
    """Share the file's blocks, or copy them and keep its holes."""
    try:
        fcntl.ioctl(writing, _FICLONE, reading)
    except OSError as error:
        if error.errno not in _NO_SHARING:
            raise
    else:
        return
    size = os.fstat(reading).st_size
    os.ftruncate(writing, size)
    at = 0
    while at < size:
        try:
            start = os.lseek(reading, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # a hole to the end
        at = os.lseek(reading, start, os.SEEK_HOLE)
        while start < at:
            count = min(at - start, _MOST_AT_ONCE)
            copied = _copy_range(reading, writing, start, count)
            if copied == 0:
                break
            start += copied


def _copy_range(reading: int, writing: int, start: int, count: int) -> int:
    """Copy up to *count* bytes from *start*, in the kernel if possible; return how many."""
    try:
        return os.copy_file_range(reading, writing, count, start, start)
    except OSError as error:  # copy_file_range(2) works only within one kind of file system
        if error.errno not in _NO_SHARING:
            raise
    os.lseek(writing, start, os.SEEK_SET)
    return os.sendfile(writing, reading, start, count)


def _exists(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _is_opaque(fd: int) -> bool:
    with suppress(OSError):
        return os.getxattr(fd, OPAQUE) == b"y"
    return False
