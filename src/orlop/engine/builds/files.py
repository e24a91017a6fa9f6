"""Files of COPY and ADD: chosen in one tree, put into another. It blocks."""

import hashlib
import os
import posixpath
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from orlop.build.ignore import Ignore, match_name
from orlop.errors import CorruptError, InvalidArgumentError, NotFoundError
from orlop.images.archives.members import Decompressed
from orlop.kernel.paths import make_directories, open_in_root
from orlop.layers.apply import Unpacker
from orlop.layers.budget import DEFAULT, Account
from orlop.layers.diff import ChangeKind, Found, walk
from orlop.layers.header import BLOCK_DEVICE, CHAR, FILE, FOLDER, LINK, SYMLINK, Entry, clean
from orlop.layers.tar import TarReader
from orlop.layers.write import TarWriter, export
from orlop.runtime import users
from orlop.runtime.failure import StepError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_WILD = frozenset("*?[\\")
_MOST_CHOSEN = 100_000


class Owner(NamedTuple):
    """What --chown and --chmod ask for."""

    uid: int = 0
    gid: int = 0
    mode: int | None = None


class Options(NamedTuple):
    """How sources are copied."""

    excluded: str = ""  # lines as in .dockerignore, about paths inside a source
    parents: bool = False  # with the folders that a source's path names
    unpacks: bool = False  # archives, in place of copying them


class Source(NamedTuple):
    """A file or folder below *root*, a descriptor, at a path that a client wrote."""

    root: int
    path: str  # clean, relative to the root; "" is the root
    shown: str  # with --parents, where it goes


def select(root: int, patterns: Sequence[str]) -> list[Source]:
    """Return what *patterns* name below *root*. NotFoundError where one names nothing."""
    found: list[Source] = []
    for pattern in patterns:
        path = _inside(pattern)
        paths = list(_matching(root, path)) if _WILD & set(path) else [path]
        if not paths:
            raise NotFoundError(f"no file matches {pattern[:300]}")
        pivot = len(_inside(pattern.partition("/./")[0])) if "/./" in pattern else 0
        found += [Source(root, one, one[pivot:].lstrip("/")) for one in paths]
    return found


def _inside(pattern: str) -> str:
    path = posixpath.normpath(pattern.lstrip("/") or ".")
    if path == ".." or path.startswith("../"):
        raise InvalidArgumentError(f"forbidden path outside the build context: {pattern[:300]}")
    return "" if path == "." else path


def _matching(root: int, pattern: str) -> Iterator[str]:
    """Yield the paths that fit, in order; a link in the middle of one is not followed."""
    found = [""]
    for part in pattern.split("/"):
        further: list[str] = []
        for parent in found:
            further += [
                posixpath.join(parent, name)
                for name in _names(root, parent)
                if match_name(part, name)
            ]
        found = further
        if len(found) > _MOST_CHOSEN:
            raise InvalidArgumentError(f"{pattern[:300]} names more than {_MOST_CHOSEN} files")
    yield from found


def _names(root: int, path: str) -> list[str]:
    try:
        fd = open_in_root(root, path, _FOLDER | os.O_NOFOLLOW)
    except OSError:
        return []
    try:
        return sorted(os.listdir(fd))
    finally:
        os.close(fd)


def digest(sources: Sequence[Source], options: Options, *, owners: bool = False) -> str:
    """Return a digest of all that copy() would write but for times, and perhaps *owners*."""
    writer = _Digest(owners=owners)
    for source in sources:
        writer.begin(source.shown)
        _read(source, "", options, writer)
    return writer.hexdigest()


def copy(
    sources: Sequence[Source], root: int, target: str, owner: Owner | None, options: Options
) -> None:
    """Copy *sources* to *target* in the tree *root*, a descriptor; without *owner* as they are.

    A target that ends in "/", or is a folder, gets files by their names, and what is in folders.
    """
    account = Account(DEFAULT, "archive", fd=root)
    unpacker = Unpacker(root, account, flat=True, whiteouts=False, keeps_times=True)
    to_folder = target.endswith("/") or options.parents or is_folder(root, target)
    if len(sources) > 1 and not (target.endswith("/") or options.parents):
        raise InvalidArgumentError(
            "with more than one source the destination must be a folder, and end with a /"
        )
    try:
        writer = _Into(unpacker, owner)
        for source in sources:
            if options.unpacks and _unpacked(source, target, unpacker, account):
                continue
            into = target.strip("/")
            if options.parents:
                into = posixpath.join(into, source.shown)
            elif to_folder and not is_folder(source.root, source.path):
                into = posixpath.join(into, posixpath.basename(source.path))
            writer.begin(into, keeps_root=is_folder(root, into))
            _read(source, into, options, writer)
        unpacker.finish()
    finally:
        unpacker.close()


def _unpacked(source: Source, target: str, unpacker: Unpacker, account: Account) -> bool:
    """Unpack the source into the folder *target* if it is an archive; False if it is none."""
    with opened(source.root, source.path) as found:
        if not stat.S_ISREG(os.fstat(found).st_mode) or not _is_archive(found):
            return False
        prefix = os.fsencode(target.strip("/"))
        with open(f"/proc/self/fd/{found}", "rb") as file:
            reader = TarReader(account.metered(Decompressed(file)))
            for entry in reader:
                if entry.kind in (CHAR, BLOCK_DEVICE):
                    raise InvalidArgumentError(f"{source.path[:200]} has a device")
                entry.name = prefix + b"/" + clean(entry.name)
                if entry.kind == LINK:
                    entry.link = prefix + b"/" + clean(entry.link)
                if entry.name.rstrip(b"/") != prefix:
                    unpacker.take(entry, reader)
    return True


def _is_archive(fd: int) -> bool:
    """Whether the regular file *fd* (O_PATH) is a tar, compressed or not, with a first entry."""
    with open(f"/proc/self/fd/{fd}", "rb") as file:
        try:
            return next(iter(TarReader(Decompressed(file))), None) is not None
        except (CorruptError, OSError):
            return False


def is_folder(root: int, path: str) -> bool:
    """Whether *path* is a folder in the tree *root*, or a link to one in it."""
    try:
        os.close(open_in_root(root, path, os.O_PATH | os.O_DIRECTORY))
    except OSError:
        return False
    return True


def make_folder(root: int, path: str) -> None:
    """Make the folder *path* in the tree *root*, and those above it. OSError."""
    os.close(make_directories(root, path))


def _read(source: Source, shown: str, options: Options, writer: TarWriter) -> None:
    """Give the file, or what is in the folder, that *source* is to *writer*, as *shown*."""
    excluded = Ignore(options.excluded)
    with opened(source.root, source.path) as found:
        status = os.fstat(found)
        if stat.S_ISDIR(status.st_mode):
            with opened(found, ".", _FOLDER) as tree:
                export(_inner(tree, shown, excluded), tree, writer, prefix=shown)
            return
    name = posixpath.basename(source.path)
    if not excluded.leaves_out(name):
        with _plain(source.root, source.path) as (parent, real):
            renamed = _Renamed(writer, os.fsencode(shown or name))
            export([Found(real, ChangeKind.ADDED, status)], parent, renamed)


def _inner(tree: int, shown: str, excluded: Ignore) -> Iterator[Found]:
    for path, status in walk(tree):
        if path and excluded.leaves_out(path):
            continue
        name = f"{shown}/{path}" if shown and path else shown or path
        yield Found(name, ChangeKind.ADDED, status)


@contextmanager
def opened(root: int, path: str, flags: int = os.O_PATH) -> Iterator[int]:
    """Open *path* as a process with the root *root* would. NotFoundError, InvalidArgumentError."""
    try:
        fd = open_in_root(root, path, flags)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"{path[:300]}: not found") from error
    except OSError as error:
        raise InvalidArgumentError(f"{path[:300]}: {error.strerror}") from error
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _plain(root: int, path: str) -> Iterator[tuple[int, str]]:
    """Open the folder that the file *path* is really in, and return its real name there."""
    with opened(root, path) as fd:
        top = os.readlink(f"/proc/self/fd/{root}").rstrip("/")
        real = os.readlink(f"/proc/self/fd/{fd}")[len(top) :]
    folder, name = posixpath.split(real)
    with opened(root, folder or "/", _FOLDER) as parent:
        yield parent, name


class _Renamed(TarWriter):
    """Passes one entry on under another name."""

    def __init__(self, writer: TarWriter, name: bytes) -> None:
        self._writer = writer
        self._name = name

    def add(self, entry: Entry, data: Iterable[bytes | memoryview] = ()) -> None:
        entry.name = self._name
        self._writer.add(entry, data)


class _Into(TarWriter):
    """Writes entries into a tree, as their owner's."""

    def __init__(self, unpacker: Unpacker, owner: Owner | None) -> None:
        self._unpacker = unpacker
        self._owner = owner
        self._root = b""
        self._keeps_root = False

    def begin(self, root: str, *, keeps_root: bool) -> None:
        """The next entries are at or below *root*, a folder that may be there already."""
        self._root, self._keeps_root = os.fsencode(root), keeps_root

    def add(self, entry: Entry, data: Iterable[bytes | memoryview] = ()) -> None:
        name = entry.name.rstrip(b"/")
        if entry.kind == FOLDER and (
            name in (b"", b".") or (self._keeps_root and name == self._root)
        ):
            return
        if self._owner is not None:
            entry.uid, entry.gid = self._owner.uid, self._owner.gid
            if self._owner.mode is not None and entry.kind != SYMLINK:
                entry.mode = self._owner.mode
        entry.stored = entry.size if entry.kind == FILE else 0
        self._unpacker.take(entry, _Pieces(data))  # type: ignore[arg-type] # only pieces() is called


class _Pieces:
    """The data of one entry, as a TarReader gives it: as many bytes as it promised."""

    def __init__(self, data: Iterable[bytes | memoryview]) -> None:
        self._data = iter(data)

    def pieces(self, count: int) -> Iterator[memoryview]:
        while count and (piece := next(self._data, None)) is not None:
            piece = memoryview(piece)[:count]
            count -= len(piece)
            yield piece


class _Digest(TarWriter):
    """Digests entries in place of writing them."""

    def __init__(self, *, owners: bool) -> None:
        self._hash = hashlib.sha256()
        self._owners = owners

    def begin(self, name: str) -> None:
        self._hash.update(b"\0source %d:" % len(name) + os.fsencode(name))

    def add(self, entry: Entry, data: Iterable[bytes | memoryview] = ()) -> None:
        xattrs = sorted((entry.xattrs or {}).items())
        link = entry.link if entry.kind in (LINK, SYMLINK) else b""
        owner = (entry.uid, entry.gid) if self._owners else ()
        what = (entry.name, entry.kind, entry.mode, entry.size, link, xattrs, *owner)
        self._hash.update(repr(what).encode())
        for piece in data:
            self._hash.update(piece)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def owner_of(root: int, chown: str, chmod: str) -> Owner:
    """Return what --chown and --chmod mean in the tree *root*. InvalidArgumentError."""
    uid = gid = 0
    if chown:
        user, colon, group = chown.partition(":")
        try:
            uid, gid = _ids(root, user, group if colon else None)
        except StepError as error:
            raise InvalidArgumentError(f"--chown={chown[:100]}: {error}") from error
    return Owner(uid, gid, _mode(chmod) if chmod else None)


def _ids(root: int, user: str, group: str | None) -> tuple[int, int]:
    identity = users.resolve(root, user or "0")
    if group:
        return identity.uid, users.group_id(root, group)
    if user.isdigit():  # Dockerfile reference: the same number is the group's
        return identity.uid, identity.uid
    return identity.uid, identity.gid


def _mode(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text, 10) > 7777 or set(text) & set("89"):
        raise InvalidArgumentError(f"--chmod={text[:50]}: expected an octal mode such as 0644")
    return int(text, 8)
