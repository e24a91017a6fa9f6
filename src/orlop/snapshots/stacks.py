"""What a stack of layers needs beyond the layers themselves.

A layer may put a file in a folder that it says nothing of; unpacked alone, the
folder has to be made, with attributes of no meaning, and in a stack those would
hide the true ones, of a layer below. Such folders are known from unpacking, and a
*patch* mends them: one more layer on top, of nothing but the folders concerned,
made once per stack. Unpacking thus needs no order, and shared layers are shared.

A patch also mends what overlay does with a whiteout that has nothing to hide: in
a folder of a single layer its name is listed, though there is no such file. With
the folder in the patch too it is of two layers, and whiteouts are left out.
"""

import enum
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from orlop.kernel.paths import open_plain
from orlop.layers.budget import Account
from orlop.layers.folders import OPAQUE

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Attributes(NamedTuple):
    """What a folder is like, apart from what is in it."""

    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    xattrs: tuple[tuple[str, bytes], ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether a folder that nobody described would be the same, but for its time."""
        return self._replace(mtime_ns=0) == Attributes()


class Layer(NamedTuple):
    """A layer to look into."""

    root: int  # an open folder
    implicit: frozenset[str]
    marked: frozenset[str]  # folders with whiteouts
    root_given: bool


class _Seen(enum.Enum):
    ABSENT = enum.auto()
    HIDDEN = enum.auto()  # something else is there
    IMPLICIT = enum.auto()
    GIVEN = enum.auto()

    @property
    def is_folder(self) -> bool:
        return self in (_Seen.IMPLICIT, _Seen.GIVEN)


class Stack(NamedTuple):
    """Layers made ready to be mounted."""

    patch: str | None  # a folder to go on top
    root: Attributes


def stack_as_json(stack: Stack) -> dict[str, Any]:
    """Return what json.dump() can write, to be read by stack_from_json()."""
    xattrs = [[name, value.hex()] for name, value in stack.root.xattrs]
    return {"patch": stack.patch, "root": [*stack.root[:-1], xattrs]}


def stack_from_json(value: dict[str, Any]) -> Stack:
    mode, uid, gid, mtime_ns, xattrs = value["root"]
    pairs = tuple((name, bytes.fromhex(text)) for name, text in xattrs)
    return Stack(value["patch"], Attributes(mode, uid, gid, mtime_ns, pairs))


def attributes_of(fd: int) -> Attributes:
    """Return the attributes of the open folder *fd*, overlay's own marks left out."""
    status = os.fstat(fd)
    names = (name for name in _xattrs_of(fd) if not name.startswith("trusted.overlay."))
    xattrs = tuple((name, os.getxattr(fd, name)) for name in sorted(names))
    mode = stat.S_IMODE(status.st_mode)
    return Attributes(mode, status.st_uid, status.st_gid, status.st_mtime_ns, xattrs)


def _xattrs_of(fd: int) -> list[str]:
    """Name them; a file system that knows of none has none, as virtiofs and NFS at times."""
    try:
        return os.listxattr(fd)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return []


def set_attributes(fd: int, attributes: Attributes) -> None:
    """Make the open folder *fd* be like that."""
    os.fchown(fd, attributes.uid, attributes.gid)
    for name, value in attributes.xattrs:
        os.setxattr(fd, name, value)
    os.fchmod(fd, attributes.mode)
    os.utime(fd, ns=(attributes.mtime_ns, attributes.mtime_ns))


def root_attributes(layers: Sequence[Layer]) -> Attributes:
    """Return what the stack's root is like: as the topmost layer says that says so."""
    for layer in reversed(layers):
        if layer.root_given:
            return attributes_of(layer.root)
    return Attributes()


def patch_of(layers: Sequence[Layer], account: Account) -> dict[str, Attributes]:
    """Return the folders to mend, parents first, "" being the root; empty if none need it.

    *account* counts them, and the time it takes: ExhaustedError.
    """
    views = [_View(layer, account) for layer in layers]
    implicit = sorted({path for layer in layers for path in layer.implicit})
    marked = sorted({path for layer in layers for path in layer.marked if path})
    mended = [path for path in implicit if _is_wrong(views, path)]
    mended += [path for path in marked if _is_alone(views, path)]
    root = root_attributes(layers)
    if not mended and (root.is_plain or not layers or layers[-1].root_given):
        return {}
    patch = {"": root}
    for path in sorted(mended):
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            prefix = "/".join(parts[:depth])
            if prefix not in patch:
                account.folder(os.fsencode(prefix))
                patch[prefix] = _merged(views, prefix) or Attributes()
    return patch


def write_patch(root: int, patch: dict[str, Attributes]) -> None:
    """Make the folders of *patch* in the empty folder *root*."""
    for path in patch:
        if path:
            os.mkdir(path, 0o700, dir_fd=root)
    for path, attributes in reversed(patch.items()):
        fd = open_plain(root, path or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            set_attributes(fd, attributes)
        finally:
            os.close(fd)


class _View:
    """Finds folders of one layer; quickly if asked in order of path."""

    def __init__(self, layer: Layer, account: Account) -> None:
        self._layer = layer
        self._account = account
        self._parts: list[str] = []  # of the path asked for last, as far as there are folders
        self._found = [_Found(_Seen.GIVEN, hides=_is_opaque(layer.root))]  # the root, and each

    def look(self, path: str) -> "_Found":
        """Tell what is at *path*, and whether the layer hides what layers below have there."""
        self._account.tick()
        parts = path.split("/")
        known = _in_common(self._parts, parts)
        del self._parts[known:], self._found[known + 1 :]
        while len(self._parts) < len(parts) and self._found[-1].seen.is_folder:
            self._parts.append(parts[len(self._parts)])
            self._found.append(self._one("/".join(self._parts), self._found[-1]))
        return self._found[-1]

    def attributes(self, path: str) -> Attributes:
        """Return what the folder at *path*, which look() has found, is like."""
        fd = self._open(path)
        try:
            return attributes_of(fd)
        finally:
            os.close(fd)

    def _one(self, path: str, above: "_Found") -> "_Found":
        try:
            fd = self._open(path)
        except FileNotFoundError:
            return _Found(_Seen.ABSENT, hides=above.hides)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                return _Found(_Seen.HIDDEN, hides=True)
            raise
        try:
            seen = _Seen.IMPLICIT if path in self._layer.implicit else _Seen.GIVEN
            return _Found(seen, hides=above.hides or _is_opaque(fd))
        finally:
            os.close(fd)

    def _open(self, path: str) -> int:
        return open_plain(self._layer.root, path, _FOLDER)


def _in_common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return with how many equal items both begin."""
    for number, (mine, theirs) in enumerate(zip(one, other, strict=False)):
        if mine != theirs:
            return number
    return min(len(one), len(other))


class _Found(NamedTuple):
    seen: _Seen
    hides: bool


def _is_wrong(views: Sequence[_View], path: str) -> bool:
    """Whether the merged folder would show made-up attributes while a layer has true ones."""
    first = next(_merge(views, path), None)
    return first is not None and first[1] is _Seen.IMPLICIT and _merged(views, path) is not None


def _is_alone(views: Sequence[_View], path: str) -> bool:
    """Whether the merged folder is that of a single layer."""
    return len(list(_merge(views, path))) == 1


def _merged(views: Sequence[_View], path: str) -> Attributes | None:
    """Return what the topmost layer that speaks of the folder says; None if none does."""
    for view, seen in _merge(views, path):
        if seen is _Seen.GIVEN:
            return view.attributes(path)
    return None


def _merge(views: Sequence[_View], path: str) -> Iterator[tuple[_View, _Seen]]:
    """Look at the folder in each layer that overlay would merge, topmost first."""
    for view in reversed(views):
        found = view.look(path)
        if found.seen.is_folder:
            yield view, found.seen
        if found.hides:
            return


def _is_opaque(fd: int) -> bool:
    with suppress(OSError):
        return os.getxattr(fd, OPAQUE) == b"y"
    return False
