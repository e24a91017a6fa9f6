"""What a stack of layers needs besides the layers.

A layer may have a file in a folder for which it has no entry. Unpacked alone, the folder has
to be made with arbitrary attributes, which in a stack would hide the real ones, from a layer
below. Unpacking records such folders, and a *patch* corrects them: one more layer on top,
with only these folders, made once per stack. So layers can be unpacked in any order, and be
shared.

A patch also corrects a whiteout that hides no file: in a folder of a single layer overlay
lists its name, although there is no such file. With the folder also in the patch it is
merged from two layers, and overlay leaves whiteouts out.
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
    """The attributes of a folder."""

    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    xattrs: tuple[tuple[str, bytes], ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether an implied folder would have the same attributes, except for its time."""
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
    """Layers prepared to be mounted together."""

    patch: str | None  # a folder to mount on top
    root: Attributes


def stack_as_json(stack: Stack) -> dict[str, Any]:
    """Return a value for json.dump(), to be read by stack_from_json()."""
    xattrs = [[name, value.hex()] for name, value in stack.root.xattrs]
    return {"patch": stack.patch, "root": [*stack.root[:-1], xattrs]}


def stack_from_json(value: dict[str, Any]) -> Stack:
    mode, uid, gid, mtime_ns, xattrs = value["root"]
    pairs = tuple((name, bytes.fromhex(text)) for name, text in xattrs)
    return Stack(value["patch"], Attributes(mode, uid, gid, mtime_ns, pairs))


def attributes_of(fd: int) -> Attributes:
    """Return the attributes of the open folder *fd*, without overlay's own marks."""
    status = os.fstat(fd)
    names = (name for name in _xattrs_of(fd) if not name.startswith("trusted.overlay."))
    xattrs = tuple((name, os.getxattr(fd, name)) for name in sorted(names))
    mode = stat.S_IMODE(status.st_mode)
    return Attributes(mode, status.st_uid, status.st_gid, status.st_mtime_ns, xattrs)


def _xattrs_of(fd: int) -> list[str]:
    """List them; none on a file system without xattrs, as virtiofs and NFS sometimes are."""
    try:
        return os.listxattr(fd)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return []


def set_attributes(fd: int, attributes: Attributes) -> None:
    """Set the attributes of the open folder *fd*."""
    os.fchown(fd, attributes.uid, attributes.gid)
    for name, value in attributes.xattrs:
        os.setxattr(fd, name, value)
    os.fchmod(fd, attributes.mode)
    os.utime(fd, ns=(attributes.mtime_ns, attributes.mtime_ns))


def root_attributes(layers: Sequence[Layer]) -> Attributes:
    """Return the attributes of the stack's root: from the topmost layer with an entry for it."""
    for layer in reversed(layers):
        if layer.root_given:
            return attributes_of(layer.root)
    return Attributes()


def patch_of(layers: Sequence[Layer], account: Account) -> dict[str, Attributes]:
    """Return the folders to correct, parents first, "" is the root; empty if none.

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
    """Finds folders of one layer; quick if asked in order of path."""

    def __init__(self, layer: Layer, account: Account) -> None:
        self._layer = layer
        self._account = account
        self._parts: list[str] = []  # of the last path, as far as its folders exist
        self._found = [_Found(_Seen.GIVEN, hides=_is_opaque(layer.root))]  # for the root and each

    def look(self, path: str) -> "_Found":
        """Return what is at *path*, and whether the layer hides what layers below have there."""
        self._account.tick()
        parts = path.split("/")
        known = _in_common(self._parts, parts)
        del self._parts[known:], self._found[known + 1 :]
        while len(self._parts) < len(parts) and self._found[-1].seen.is_folder:
            self._parts.append(parts[len(self._parts)])
            self._found.append(self._one("/".join(self._parts), self._found[-1]))
        return self._found[-1]

    def attributes(self, path: str) -> Attributes:
        """Return the attributes of the folder at *path*, which look() has found."""
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
    """Return the number of equal items at the beginning of both."""
    for number, (mine, theirs) in enumerate(zip(one, other, strict=False)):
        if mine != theirs:
            return number
    return min(len(one), len(other))


class _Found(NamedTuple):
    seen: _Seen
    hides: bool


def _is_wrong(views: Sequence[_View], path: str) -> bool:
    """Whether the merged folder would show arbitrary attributes while a layer has real ones."""
    first = next(_merge(views, path), None)
    return first is not None and first[1] is _Seen.IMPLICIT and _merged(views, path) is not None


def _is_alone(views: Sequence[_View], path: str) -> bool:
    """Whether the merged folder comes from a single layer."""
    return len(list(_merge(views, path))) == 1


def _merged(views: Sequence[_View], path: str) -> Attributes | None:
    """Return the attributes in the topmost layer with an entry for the folder, or None."""
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
