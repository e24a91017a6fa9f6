"""Write the tar of a layer: ustar headers, and PAX records for what does not fit them."""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from io import FileIO, RawIOBase
from typing import Protocol

from orlop.errors import InvalidArgumentError
from orlop.kernel.paths import FileSystem, file_system_type, open_plain, open_regular
from orlop.layers.apply import OPAQUE_WHITEOUT, WHITEOUT
from orlop.layers.diff import Found
from orlop.layers.header import (
    BLOCK,
    BLOCK_DEVICE,
    CHAR,
    FIFO,
    FILE,
    FOLDER,
    LINK,
    PAX,
    SYMLINK,
    Entry,
)

_CHUNK = 1 << 20
#: Size of files that the kernel generates when they are read. proc(5), sysfs(5).
_UNTOLD_SIZES = (0, os.sysconf("SC_PAGE_SIZE"))
OF_THE_KERNEL = (FileSystem.PROC, FileSystem.SYSFS, FileSystem.CGROUP, FileSystem.CGROUP2)
#: Errors for a file that was removed, or replaced by another kind of file, meanwhile.
_CHANGED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EINVAL)
_MOST_TEXT = 16 << 20
_MOST_OCTAL = 0o7777777
_MOST_SIZE = 0o77777777777
_OWN_XATTRS = ("trusted.overlay.", "user.overlay.", "security.selinux")
_KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: FOLDER,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: CHAR,
    stat.S_IFBLK: BLOCK_DEVICE,
    stat.S_IFIFO: FIFO,
}


class Output(Protocol):
    def write(self, data: bytes | memoryview, /) -> int: ...


class TarWriter:
    """Writes entries to *out*; close() ends the archive, and leaves *out* open."""

    def __init__(self, out: Output) -> None:
        self._out = out

    def add(self, entry: Entry, data: Iterable[bytes | memoryview] = ()) -> None:
        """Write the entry and its data: *entry.size* bytes, truncated or padded with zeros."""
        records = _pax(entry)
        if records:
            header = Entry(b"PaxHeaders/0", PAX, 0o644, 0, 0, len(records), 0, 0, b"", 0, 0)
            self._out.write(_header(header) + _padded(records))
        self._out.write(_header(entry))
        left = entry.size
        for piece in data:
            piece = piece[:left]
            self._out.write(piece)
            left -= len(piece)
        while left:  # the file has shrunk
            filling = bytes(min(left, _CHUNK))
            self._out.write(filling)
            left -= len(filling)
        self._out.write(bytes(-entry.size % BLOCK))

    def close(self) -> None:
        self._out.write(bytes(2 * BLOCK))


def export(found: Iterable[Found], tree: int, writer: TarWriter, *, prefix: str = "") -> None:
    """Write the differences as a layer; *tree*, their folder, is at *prefix* in the root.

    Sockets are left out, and so are names that a layer cannot have (`.wh.…`), and files
    that a running container removes or replaces meanwhile.
    """
    links: dict[tuple[int, int], bytes] = {}
    for item in found:
        path = os.fsencode(item.path)
        parent, _, name = path.rpartition(b"/")
        if name.startswith(WHITEOUT):
            continue
        if item.status is None:
            gone = WHITEOUT + name
            writer.add(_plain(parent + b"/" + gone if parent else gone))
        elif path or item.kind is not None:
            _export_one(item, tree, writer, links, own=item.path[len(prefix) :].lstrip("/"))
            if item.opaque:
                writer.add(_plain(path + b"/" + OPAQUE_WHITEOUT if path else OPAQUE_WHITEOUT))


def _export_one(
    item: Found, tree: int, writer: TarWriter, links: dict[tuple[int, int], bytes], *, own: str
) -> None:
    status = item.status
    assert status is not None
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        return
    path = os.fsencode(item.path) or b"."
    entry = _plain(path + b"/" if kind == FOLDER else path)
    entry.kind, entry.mode = kind, stat.S_IMODE(status.st_mode)
    entry.uid, entry.gid, entry.mtime_ns = status.st_uid, status.st_gid, status.st_mtime_ns
    if kind in (CHAR, BLOCK_DEVICE):
        entry.major, entry.minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    if kind != FOLDER and status.st_nlink > 1:
        first = links.setdefault((status.st_dev, status.st_ino), path)
        if first != path:
            entry.kind, entry.link = LINK, first
            writer.add(entry)
            return
    try:
        fd = _open_contents(entry, own, tree)
    except OSError as error:
        if error.errno not in _CHANGED:
            raise
        links.pop((status.st_dev, status.st_ino), None)
        return
    if fd is None:
        writer.add(entry)
    else:
        with open(fd, "rb", buffering=0) as file:
            _add_file(entry, file, writer)


def _open_contents(entry: Entry, own: str, tree: int) -> int | None:
    """Add to the entry what can only be read from the file: its link and xattrs.

    Returns a descriptor of its data, if it is a regular file.
    """
    parent_path, _, name = own.rpartition("/")
    parent = open_plain(tree, parent_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        place = f"/proc/self/fd/{parent}/{name or '.'}"
        names = os.listxattr(place, follow_symlinks=False)
        entry.xattrs = {
            xattr: os.getxattr(place, xattr, follow_symlinks=False)
            for xattr in sorted(names)
            if not xattr.startswith(_OWN_XATTRS)
        }
        if entry.kind == SYMLINK:
            entry.link = os.fsencode(os.readlink(name, dir_fd=parent))
        return open_regular(name, dir_fd=parent) if entry.kind == FILE else None
    finally:
        os.close(parent)


def _add_file(entry: Entry, file: FileIO, writer: TarWriter) -> None:
    entry.size = os.fstat(file.fileno()).st_size
    if entry.size in _UNTOLD_SIZES and file_system_type(file.fileno()) in OF_THE_KERNEL:
        text = _text(file, entry)
        entry.size = len(text)
        writer.add(entry, [text])
    else:
        writer.add(entry, _pieces(file, entry.size))


def _pieces(file: RawIOBase, size: int) -> Iterator[bytes]:
    """Yield *size* bytes: the file may be growing, or endless."""
    left = size
    while left and (piece := file.read(min(left, _CHUNK))):
        yield piece
        left -= len(piece)


def _text(file: RawIOBase, entry: Entry) -> bytes:
    """Return the content of a kernel file, whose size the kernel does not tell."""
    text = bytearray()
    while piece := file.read(_CHUNK):
        text += piece
        if len(text) > _MOST_TEXT:
            name = os.fsdecode(entry.name)
            raise InvalidArgumentError(f"{name} has no size and more than {_MOST_TEXT} bytes")
    return bytes(text)


def _plain(name: bytes) -> Entry:
    return Entry(name, FILE, 0o600, 0, 0, 0, 0, 0, b"", 0, 0)


def _pax(entry: Entry) -> bytes:
    """Return the PAX records for what a ustar header cannot express."""
    values: dict[bytes, bytes] = {}
    if len(entry.name) > 100 or not entry.name.isascii():
        values[b"path"] = entry.name
    if len(entry.link) > 100 or not entry.link.isascii():
        values[b"linkpath"] = entry.link
    if entry.size > _MOST_SIZE:
        values[b"size"] = b"%d" % entry.size
    if entry.uid > _MOST_OCTAL:
        values[b"uid"] = b"%d" % entry.uid
    if entry.gid > _MOST_OCTAL:
        values[b"gid"] = b"%d" % entry.gid
    seconds, fraction = divmod(entry.mtime_ns, 1_000_000_000)
    if fraction or not 0 <= seconds <= _MOST_SIZE:
        values[b"mtime"] = _time(entry.mtime_ns)
    for name, value in (entry.xattrs or {}).items():
        values[b"SCHILY.xattr." + os.fsencode(name)] = value
    return b"".join(_record(key, value) for key, value in values.items())


def _time(time_ns: int) -> bytes:
    seconds, fraction = divmod(abs(time_ns), 1_000_000_000)
    text = f"{seconds}.{fraction:09}" if fraction else f"{seconds}"  # mkfs.erofs needs all digits
    return (("-" if time_ns < 0 else "") + text).encode()


def _record(key: bytes, value: bytes) -> bytes:
    """Return `LENGTH KEY=VALUE\\n`, where the length counts its own digits. pax(1)."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) + rest != length:
        length += 1
    return b"%d %s=%s\n" % (length, key, value)


def _header(entry: Entry) -> bytes:
    seconds = min(max(entry.mtime_ns // 1_000_000_000, 0), _MOST_SIZE)
    fields = (
        entry.name[:100].ljust(100, b"\0"),
        b"%07o\0" % entry.mode,
        b"%07o\0" % min(entry.uid, _MOST_OCTAL),
        b"%07o\0" % min(entry.gid, _MOST_OCTAL),
        b"%011o\0" % min(entry.size, _MOST_SIZE),
        b"%011o\0" % seconds,
        b" " * 8,
        entry.kind,
        entry.link[:100].ljust(100, b"\0"),
        b"ustar\x0000",
        bytes(64),
        b"%07o\0" % entry.major,
        b"%07o\0" % entry.minor,
        bytes(167),
    )
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)
