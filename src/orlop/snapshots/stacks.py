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
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import NamedTuple

from orlop.kernel.paths import open_plain
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


def patch_of(layers: Sequence[Layer]) -> dict[str, Attributes]:
    """Return the folders to mend, parents first, "" being the root; empty if none need it."""
    implicit = {path for layer in layers for path in layer.implicit}
    marked = {path for layer in layers for path in layer.marked if path}
    mended = [path for path in implicit if _is_wrong(layers, path)]
    mended += [path for path in marked if _is_alone(layers, path)]
    root = root_attributes(layers)
    if not mended and (root.is_plain or not layers or layers[-1].root_given):
        return {}
    patch = {"": root}
    for path in sorted(mended):
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            prefix = "/".join(parts[:depth])
            if prefix not in patch:
                patch[prefix] = _merged(layers, prefix) or Attributes()
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


def _is_wrong(layers: Sequence[Layer], path: str) -> bool:
    """Whether the merged folder would show made-up attributes while a layer has true ones."""
    first = next(_merge(layers, path), None)
    return first is _Seen.IMPLICIT and _merged(layers, path) is not None


def _is_alone(layers: Sequence[Layer], path: str) -> bool:
    """Whether the merged folder is that of a single layer."""
    return len(list(_merge(layers, path))) == 1


def _merged(layers: Sequence[Layer], path: str) -> Attributes | None:
    """Return what the topmost layer that speaks of the folder says; None if none does."""
    found: list[Attributes] = []
    for seen in _merge(layers, path, lambda fd: found.append(attributes_of(fd))):
        if seen is _Seen.GIVEN:
            return found[-1]
    return None


def _merge(
    layers: Sequence[Layer], path: str, use: Callable[[int], None] = lambda fd: None
) -> Iterator[_Seen]:
    """Look at the folder in each layer that overlay would merge, topmost first."""
    for layer in reversed(layers):
        seen, opaque = _look(layer, path, use)
        if seen in (_Seen.IMPLICIT, _Seen.GIVEN):
            yield seen
        if opaque or seen is _Seen.HIDDEN:
            return


def _look(layer: Layer, path: str, use: Callable[[int], None]) -> tuple[_Seen, bool]:
    """Find the folder in one layer, and *use* it there; tell whether it hides what is below."""
    with ExitStack() as stack:
        at, opaque = layer.root, _is_opaque(layer.root)
        for part in path.split("/"):
            try:
                status = os.stat(part, dir_fd=at, follow_symlinks=False)
            except FileNotFoundError:
                return _Seen.ABSENT, opaque
            if not stat.S_ISDIR(status.st_mode):
                return _Seen.HIDDEN, True
            at = os.open(part, _FOLDER, dir_fd=at)
            stack.callback(os.close, at)
            opaque = opaque or _is_opaque(at)
        use(at)
        return (_Seen.IMPLICIT if path in layer.implicit else _Seen.GIVEN), opaque


def _is_opaque(fd: int) -> bool:
    with suppress(OSError):
        return os.getxattr(fd, OPAQUE) == b"y"
    return False
