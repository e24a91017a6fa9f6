"""Find the changes of a tree relative to its base. OCI image-spec layer.md, "Change Types".

The upper layer of an overlay contains exactly the changes, with marks for removals; a
plain copy is compared with its original.
"""

import enum
import errno
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from orlop.errors import UnsupportedError
from orlop.kernel.paths import open_plain
from orlop.layers.folders import OPAQUE
from orlop.layers.header import MAX_PATH_BYTES

_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # or replaced by something else


class ChangeKind(enum.StrEnum):
    """The letters of `docker diff`."""

    ADDED = "A"
    CHANGED = "C"
    DELETED = "D"


class Change(NamedTuple):
    kind: ChangeKind
    path: str  # from the root, with a leading "/"


class Found(NamedTuple):
    """A difference; or, without a kind, an unchanged folder on the path to one."""

    path: str  # from the root, without a leading "/"; "" is the root
    kind: ChangeKind | None
    status: os.stat_result | None = None  # None if it was deleted
    opaque: bool = False  # the folder hides the base's folder
    touched: bool = False  # a folder whose time differs, and nothing else


def without_mount_points(found: Iterable[Found], targets: Collection[str]) -> Iterator[Found]:
    """Leave out what had to be made to mount something on *targets*, and the folders around it.

    Only what is still empty. *targets* are paths from the root, with a leading "/".
    """
    points = {target.strip("/") for target in targets}
    around = {
        "/".join(parts[:n]) for parts in (p.split("/") for p in points) for n in range(len(parts))
    }
    held: list[Found] = []
    for item in found:
        held = [one for one in held if not one.path or item.path.startswith(one.path + "/")]
        if not _may_be_made_for(item, points, around):
            yield from held
            held = []
            yield item
        elif item.status is not None and stat.S_ISDIR(item.status.st_mode):
            held.append(item)


def _may_be_made_for(item: Found, points: set[str], around: set[str]) -> bool:
    if item.status is None or item.opaque:
        return False
    is_folder = stat.S_ISDIR(item.status.st_mode)
    if item.kind is ChangeKind.ADDED:
        is_empty = stat.S_ISREG(item.status.st_mode) and not item.status.st_size
        is_point = item.path in points and (is_folder or is_empty)
        return is_point or (is_folder and item.path in around)
    return item.kind is None or (item.touched and item.path in around)


def changes(found: Iterable[Found]) -> Iterator[Change]:
    """Yield the output of `docker diff`: a folder is changed if a file was added or deleted."""
    pending: list[str] = []
    for item in found:
        pending = [path for path in pending if item.path.startswith(path + "/")]
        if item.kind is None:
            pending.append(item.path)
            continue
        if item.kind is not ChangeKind.CHANGED:
            yield from (Change(ChangeKind.CHANGED, f"/{path}") for path in pending if path)
            pending = []
        if item.path:
            yield Change(item.kind, f"/{item.path}")


def in_upper(upper: int, lower: int, *, prefix: str = "") -> Iterator[Found]:
    """Yield the differences of overlay's upper layer *upper* from *lower*, parents first."""
    for path, status in walk(upper):
        was = _status(lower, path)
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            found = Found(path, ChangeKind.DELETED)
            if was is None:
                continue
        else:
            opaque = stat.S_ISDIR(status.st_mode) and _is_opaque(upper, path)
            kind, touched = _kind(status, was, opaque=opaque), _is_touched(status, was)
            found = Found(path, kind, status, opaque, touched)
        yield found._replace(path=_join(prefix, path))
        if found.opaque:
            for name in _hidden(upper, lower, path):
                yield Found(_join(prefix, _join(path, name)), ChangeKind.DELETED)


def in_copy(tree: int, base: int) -> Iterator[Found]:
    """Yield the differences of *tree* from *base*, its original, parents first."""
    for path, status in walk(tree):
        was = _status(base, path)
        if was is not None and not stat.S_ISDIR(status.st_mode) and _same_file(status, was):
            continue
        kind, touched = _kind(status, was, opaque=False), _is_touched(status, was)
        yield Found(path, kind, status, touched=touched)
        if stat.S_ISDIR(status.st_mode) and was is not None and stat.S_ISDIR(was.st_mode):
            for name in _hidden(tree, base, path):
                yield Found(_join(path, name), ChangeKind.DELETED)


def walk(
    root: int, *, enters: Callable[[str, os.stat_result], bool] = lambda _path, _status: True
) -> Iterator[tuple[str, os.stat_result]]:
    """Yield each path below *root* with its status, parents first, sorted; "" is the root.

    Files that disappear meanwhile are left out, and so is the content of folders that it
    does not enter.
    """
    yield "", os.fstat(root)
    pending = [_listed(root, "")]
    while pending:
        item = next(pending[-1], None)
        if item is None:
            pending.pop()
            continue
        yield item
        if stat.S_ISDIR(item[1].st_mode) and enters(*item):
            pending.append(_listed(root, item[0]))


def _listed(root: int, path: str) -> Iterator[tuple[str, os.stat_result]]:
    try:
        fd = open_plain(root, path, _FOLDER)
    except OSError as error:
        if path and error.errno in _GONE:
            return iter(())
        raise
    items = []
    try:
        with suppress(ProcessLookupError):  # of a process that ends: proc(5)
            for name in sorted(os.listdir(fd)):
                with suppress(FileNotFoundError):
                    items.append((_join(path, name), _status_in(fd, name)))
    finally:
        os.close(fd)
    if items and len(os.fsencode(items[0][0])) > MAX_PATH_BYTES:
        raise UnsupportedError(f"path {path[:60]}… is too long for a layer")
    return iter(items)


def _status_in(fd: int, name: str) -> os.stat_result:
    return os.stat(name, dir_fd=fd, follow_symlinks=False)


def _status(root: int, path: str) -> os.stat_result | None:
    """Return the status of *path* below *root* if it exists, without following links."""
    parent, _, name = path.rpartition("/")
    if not name:
        return os.fstat(root)
    try:
        fd = open_plain(root, parent, os.O_PATH | os.O_DIRECTORY)
    except OSError:  # missing, or not a folder
        return None
    try:
        return _status_in(fd, name)
    except FileNotFoundError:
        return None
    finally:
        os.close(fd)


def _kind(status: os.stat_result, was: os.stat_result | None, *, opaque: bool) -> ChangeKind | None:
    if was is None:
        return ChangeKind.ADDED
    folders = stat.S_ISDIR(status.st_mode) and stat.S_ISDIR(was.st_mode)
    if folders and not opaque and _attributes(status) == _attributes(was):
        return None
    return ChangeKind.CHANGED


def _is_touched(status: os.stat_result, was: os.stat_result | None) -> bool:
    if was is None or not stat.S_ISDIR(status.st_mode):
        return False
    return _attributes(status)[:-1] == _attributes(was)[:-1]


def _attributes(status: os.stat_result) -> tuple[int, ...]:
    return status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns


def _same_file(status: os.stat_result, was: os.stat_result) -> bool:
    """Whether a copied file is unchanged, as far as can be told without reading it."""
    return (*_attributes(status), status.st_size, status.st_rdev) == (
        *_attributes(was),
        was.st_size,
        was.st_rdev,
    )


def _hidden(tree: int, base: int, path: str) -> list[str]:
    """Return the names that the base's folder has and the tree's folder lacks."""
    names: list[set[str]] = []
    for root in (base, tree):
        try:
            fd = open_plain(root, path, _FOLDER)
        except OSError:
            return []
        try:
            names.append(set(os.listdir(fd)))
        finally:
            os.close(fd)
    return sorted(names[0] - names[1])


def _is_opaque(root: int, path: str) -> bool:
    try:
        fd = open_plain(root, path, _FOLDER)
    except OSError as error:
        if error.errno in _GONE:
            return False
        raise
    try:
        return os.getxattr(fd, OPAQUE) == b"y"
    except OSError:
        return False
    finally:
        os.close(fd)


def _join(parent: str, name: str) -> str:
    return f"{parent}/{name}" if parent and name else parent or name
