"""Copy files into and out of a container's root, as tars: `cp` and `export`.

Every path is resolved beneath the root (openat2, RESOLVE_IN_ROOT), even if the container
changes links meanwhile (CVE-2018-15664).
"""

import os
import posixpath
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import BinaryIO, NamedTuple

from orlop.errors import InvalidArgumentError, NotFoundError
from orlop.kernel.idmap import Mapping, acting_as
from orlop.kernel.paths import file_system_type, open_in_root, open_plain
from orlop.layers.apply import Unpacker
from orlop.layers.budget import DEFAULT, Account
from orlop.layers.diff import ChangeKind, Found, walk
from orlop.layers.header import LINK, Entry
from orlop.layers.tar import Stream, TarReader
from orlop.layers.write import OF_THE_KERNEL, TarWriter, export

_NOBODY = 65534  # user_namespaces(7), "Unmapped user and group IDs"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Place(NamedTuple):
    """The file at a path."""

    name: str
    status: os.stat_result
    link: str = ""  # absolute, in the root


class Ids(NamedTuple):
    """The ids of a user namespace, for reading and writing its files from outside."""

    uids: Sequence[Mapping]
    gids: Sequence[Mapping]

    def outside(self, uid: int, gid: int) -> tuple[int, int]:
        """Return this machine's ids for two ids of the namespace. InvalidArgumentError."""
        return _outside("user", uid, self.uids), _outside("group", gid, self.gids)

    def inside(self, uid: int, gid: int) -> tuple[int, int]:
        """Return the namespace's ids for two of this machine's ids."""
        return _inside(uid, self.uids), _inside(gid, self.gids)


def _outside(what: str, number: int, mappings: Sequence[Mapping]) -> int:
    for mapping in mappings:
        if mapping.inside <= number < mapping.inside + mapping.size:
            return mapping.outside + number - mapping.inside
    raise InvalidArgumentError(f"{what} {number} is not in the container's user namespace")


def _inside(number: int, mappings: Sequence[Mapping]) -> int:
    for mapping in mappings:
        if mapping.outside <= number < mapping.outside + mapping.size:
            return mapping.inside + number - mapping.outside
    return _NOBODY


class _InsideWriter(TarWriter):
    """Writes owners as ids of a namespace."""

    def __init__(self, out: BinaryIO, ids: Ids) -> None:
        super().__init__(out)
        self._ids = ids

    def add(self, entry: Entry, data: Iterable[bytes | memoryview] = ()) -> None:
        entry.uid, entry.gid = self._ids.inside(entry.uid, entry.gid)
        super().add(entry, data)


def look(root: int, path: str, *, shown: str = "") -> Place:
    """Return the file at *path*; a trailing "/" or "/." follows a link. NotFoundError.

    *shown* is its name, if it is not the last part of *path*.
    """
    with _parent(root, path) as (parent, name):
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        link = ""
        if stat.S_ISLNK(status.st_mode):
            inside = posixpath.join("/", posixpath.dirname(path.rstrip("/")))
            link = posixpath.normpath(posixpath.join(inside, os.readlink(name, dir_fd=parent)))
    return Place(shown or _shown(path), status, link)


def read(root: int, path: str, out: BinaryIO, *, shown: str = "", ids: Ids | None = None) -> None:
    """Write the file or folder at *path* to *out* as a tar; names begin with *shown*.

    *shown* defaults to the last part of *path*. Owners are ids of *ids*, if given.
    """
    writer = TarWriter(out) if ids is None else _InsideWriter(out, ids)
    shown = shown or _shown(path)
    with _parent(root, path) as (parent, name):
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            export([Found(name, ChangeKind.ADDED, status)], parent, writer)
        else:
            tree = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
            try:
                export(_found(tree, shown), tree, writer, prefix=shown)
            finally:
                os.close(tree)
    writer.close()


def read_all(root: int, out: BinaryIO, *, ids: Ids | None = None) -> None:
    """Write the whole root to *out* as a tar. Owners are ids of *ids*, if given."""
    writer = _InsideWriter(out, ids) if ids else TarWriter(out)
    export(_found(root, ""), root, writer)
    writer.close()


def write(
    root: int,
    path: str,
    source: Stream,
    *,
    owner: tuple[int, int] | None = None,
    ids: Ids | None = None,
    keep_kinds: bool = False,
) -> None:
    """Unpack the tar *source* into the folder *path*.

    *owner*, if given, owns everything. Owners are ids of *ids*, if given. With *keep_kinds*
    a folder never replaces a file, nor a file a folder. NotFoundError,
    InvalidArgumentError.
    """
    prefix = os.fsencode(_folder_within(root, path))
    account = Account(DEFAULT, "archive")
    reader = TarReader(account.metered(source))
    unpacker = Unpacker(root, account, flat=True, whiteouts=False)
    with ExitStack() as stack:
        stack.callback(unpacker.close)
        if ids is not None:
            stack.enter_context(acting_as(*ids.outside(0, 0)))
        for entry in reader:
            entry.name = prefix + b"/" + entry.name.lstrip(b"/")
            if entry.kind == LINK:
                entry.link = prefix + b"/" + entry.link.lstrip(b"/")
            if owner is not None:
                entry.uid, entry.gid = owner
            if ids is not None:
                entry.uid, entry.gid = ids.outside(entry.uid, entry.gid)
            if keep_kinds:
                _check_kind(root, entry)
            if entry.name.rstrip(b"/.") != prefix.rstrip(b"/."):
                unpacker.take(entry, reader)
        unpacker.finish()


def _found(tree: int, shown: str) -> Iterator[Found]:
    """Yield everything below *tree*; of the kernel's file systems, as /proc, only the folder."""
    own = os.fstat(tree).st_dev

    def enters(path: str, status: os.stat_result) -> bool:
        return status.st_dev == own or not _is_made_up(tree, path)

    for path, status in walk(tree, enters=enters):
        name = f"{shown}/{path}" if shown and path else shown or path
        yield Found(name, ChangeKind.ADDED, status)


def _is_made_up(tree: int, path: str) -> bool:
    try:
        with _opened(lambda: open_plain(tree, path)) as fd:
            return file_system_type(fd) in OF_THE_KERNEL
    except OSError:
        return False


def _shown(path: str) -> str:
    """Return the last part of *path*, "." for the contents of a folder, "/" for the root."""
    if path.endswith("/."):
        return "."
    return posixpath.basename(path.rstrip("/")) or "/"


@contextmanager
def _parent(root: int, path: str) -> Iterator[tuple[int, str]]:
    """Open the folder that *path* is in, and return the name in it."""
    clean = posixpath.normpath("/" + path.lstrip("/"))
    follow = path.endswith(("/", "/.")) or clean == "/"
    folder, name = (clean, ".") if follow else posixpath.split(clean)
    with _said(path), _opened(lambda: open_in_root(root, folder, _FOLDER)) as parent:
        yield parent, name


@contextmanager
def _opened(open_it: Callable[[], int]) -> Iterator[int]:
    fd = open_it()
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _said(path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(f"Could not find the file {path[:300]}") from error
    except NotADirectoryError as error:
        raise InvalidArgumentError(f"not a directory: {path[:300]}") from error
    except OSError as error:
        if error.errno is None:
            raise
        raise InvalidArgumentError(f"cannot reach {path[:300]}: {error.strerror}") from error


def _folder_within(root: int, path: str) -> str:
    """Return the folder *path*, its links resolved, as a path from the root."""
    with _said(path), _opened(lambda: open_in_root(root, path, os.O_PATH)) as fd:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise InvalidArgumentError("extraction point is not a directory")
    return posixpath.normpath("/" + path.lstrip("/")).lstrip("/")


def _check_kind(root: int, entry: Entry) -> None:
    try:
        fd = open_in_root(root, os.fsdecode(entry.name), os.O_PATH | os.O_NOFOLLOW)
    except OSError:
        return
    there = stat.S_ISDIR(os.fstat(fd).st_mode)
    os.close(fd)
    name = os.fsdecode(entry.name)[:200]
    if there and entry.kind != b"5":
        raise InvalidArgumentError(f"cannot overwrite directory with non-directory: {name}")
    if not there and entry.kind == b"5":
        raise InvalidArgumentError(f"cannot overwrite non-directory with directory: {name}")
