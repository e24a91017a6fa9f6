"""Parse the 512-byte headers of a tar. pax(1), GNU tar's manual "Basic Tar Format".

Reads what tar, pax, star, Go and Python write: ustar, PAX and GNU long names,
binary numbers, the three sparse formats of GNU tar. Every field comes from a
stranger: what is malformed raises CorruptError, and what is large is bounded.
"""

import re
import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from orlop.errors import CorruptError

BLOCK = 512
MAX_EXTENSION_BYTES = 1 << 20  # of one PAX or long-name record, or one sparse map; as Go's reader
MAX_PATH_BYTES = 4095  # PATH_MAX less its NUL
_MAX_INT = (1 << 63) - 1
_MAX_ID = (1 << 32) - 2  # the next one means "no id"; credentials(7)
_MAX_TIME_S = 1 << 34  # the range of ext4; other times are clamped to it
_MAX_MAJOR, _MAX_MINOR = (1 << 12) - 1, (1 << 20) - 1

FILE, LINK, SYMLINK, CHAR, BLOCK_DEVICE, FOLDER, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
OLD_FILE, CONTIGUOUS, GNU_SPARSE = b"\0", b"7", b"S"
PAX, PAX_GLOBAL, GNU_LONG_NAME, GNU_LONG_LINK, GNU_VOLUME = b"x", b"g", b"L", b"K", b"V"
HAS_DATA = frozenset({FILE, OLD_FILE, CONTIGUOUS, GNU_SPARSE})
KNOWN = HAS_DATA | {LINK, SYMLINK, CHAR, BLOCK_DEVICE, FOLDER, FIFO}

_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_MAGIC_POSIX = b"ustar\x00"
_TIME = re.compile(rb"(-?)([0-9]{1,12})(?:\.([0-9]*))?")
_XATTR = b"SCHILY.xattr."


class Segment(NamedTuple):
    """A run of a sparse file's stored bytes, and its place in the file."""

    offset: int
    size: int


@dataclass(slots=True)
class Entry:
    """One member of a tar. Names are as written: clean() makes them safe."""

    name: bytes
    kind: bytes  # one of KNOWN; FILE for all kinds of regular file
    mode: int
    uid: int
    gid: int
    size: int  # the file's length in bytes, including holes
    stored: int  # bytes of data that follow the header
    mtime_ns: int
    link: bytes
    major: int
    minor: int
    xattrs: dict[str, bytes] | None = None
    sparse: list[Segment] | None = None


@dataclass(slots=True)
class Extension:
    """What the records before a header say about its file."""

    pax: dict[bytes, bytes] = field(default_factory=dict)
    sparse: list[int] = field(default_factory=list)  # offset, size, offset, … of PAX format 0.0
    name: bytes | None = None
    link: bytes | None = None


def clean(name: bytes) -> bytes:
    """Return *name* as a simple relative path; `..` stops at the root, which is b"".

    Raises CorruptError if it cannot be a path.
    """
    if len(name) > MAX_PATH_BYTES or b"\0" in name:
        raise CorruptError(f"layer holds an impossible file name {name[:64]!r}")
    if b"." not in name and b"//" not in name:
        return name.strip(b"/")
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


def number(text: bytes) -> int:
    """Return a numeric header field: octal text, or base 256 if its first bit is set."""
    if text[0] & 0x80:
        value = int.from_bytes(text, "big") & ((1 << (8 * len(text) - 1)) - 1)
        if text[0] & 0x40:
            value -= 1 << (8 * len(text) - 1)
        if abs(value) > _MAX_INT:
            raise CorruptError("layer has a number that is too large in a tar header")
        return value
    digits = text.partition(b"\0")[0].strip(b" ")
    if not digits:
        return 0
    try:
        if digits.isdigit():
            return int(digits, 8)
    except ValueError:
        pass
    raise CorruptError(f"layer has a malformed number {text[:16]!r} in a tar header")


def parse(block: bytes) -> Entry:
    """Return the entry in a header block; CorruptError if its checksum is wrong."""
    (name, mode, uid, gid, size, mtime, checksum, kind, link, magic, _, _, major, minor, prefix) = (
        _HEADER.unpack(block)
    )
    if sum(block) - sum(checksum) + 256 != number(checksum) and not _signed_sum(block, checksum):
        raise CorruptError("layer is not a tar: wrong header checksum")
    name = name.partition(b"\0")[0]
    if prefix[0] and magic.startswith(_MAGIC_POSIX):
        name = prefix.partition(b"\0")[0] + b"/" + name
    if kind == OLD_FILE and name.endswith(b"/"):
        kind = FOLDER
    stored = number(size)
    entry = Entry(
        name=name,
        kind=kind,
        mode=number(mode) & 0o7777,
        uid=number(uid),
        gid=number(gid),
        size=stored,
        stored=stored,
        mtime_ns=number(mtime) * 1_000_000_000,
        link=link.partition(b"\0")[0],
        major=number(major) if kind in (CHAR, BLOCK_DEVICE) else 0,
        minor=number(minor) if kind in (CHAR, BLOCK_DEVICE) else 0,
    )
    _check(entry)
    return entry


def parse_pax(data: bytes) -> Extension:
    """Parse an extended header: records of `LENGTH KEY=VALUE\\n`. pax(1)."""
    extension = Extension()
    start = 0
    while start < len(data):
        space = data.find(b" ", start, start + 20)
        digits = data[start:space] if space > 0 else b""
        end = start + int(digits) if digits.isdigit() else 0
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not equals or not key or end > len(data) or data[end - 1 : end] != b"\n":
            raise CorruptError("layer has a malformed PAX header")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            extension.sparse.append(decimal(value))
        else:
            extension.pax[key] = value
        start = end
    return extension


def extend(entry: Entry, extension: Extension) -> None:
    """Override an entry's fields by the records before its header, except for a sparse map."""
    pax = extension.pax
    entry.name = pax.get(b"path", entry.name if extension.name is None else extension.name)
    entry.link = pax.get(b"linkpath", entry.link if extension.link is None else extension.link)
    if b"size" in pax:
        entry.size = entry.stored = decimal(pax[b"size"])
    if b"uid" in pax:
        entry.uid = decimal(pax[b"uid"])
    if b"gid" in pax:
        entry.gid = decimal(pax[b"gid"])
    if b"mtime" in pax:
        entry.mtime_ns = _time(pax[b"mtime"])
    xattrs = {
        key[len(_XATTR) :].decode("utf-8", "surrogateescape"): value
        for key, value in pax.items()
        if key.startswith(_XATTR)
    }
    if xattrs:
        entry.xattrs = xattrs
    _check(entry)


def _check(entry: Entry) -> None:
    """Refuse numbers that the kernel would interpret differently."""
    if (
        entry.stored < 0
        or not 0 <= entry.uid <= _MAX_ID
        or not 0 <= entry.gid <= _MAX_ID
        or not 0 <= entry.major <= _MAX_MAJOR
        or not 0 <= entry.minor <= _MAX_MINOR
    ):
        shown = entry.name[:100].decode(errors="replace")
        raise CorruptError(f"layer has impossible numbers for {shown!r}")
    limit_ns = _MAX_TIME_S * 1_000_000_000
    if not -limit_ns < entry.mtime_ns < limit_ns:
        entry.mtime_ns = limit_ns - 1 if entry.mtime_ns > 0 else 0


def decimal(text: bytes) -> int:
    """Return a number of a PAX record; CorruptError unless it is a number of at most 63 bits."""
    if not text.isdigit() or len(text) > 19 or int(text) > _MAX_INT:
        raise CorruptError(f"layer has a malformed number {text[:24]!r} in a PAX header")
    return int(text)


def _time(text: bytes) -> int:
    match = _TIME.fullmatch(text)
    if match is None:
        raise CorruptError(f"layer has a malformed time {text[:24]!r} in a PAX header")
    sign, seconds, fraction = match.groups()
    time_ns = int(seconds) * 1_000_000_000 + int((fraction or b"").ljust(9, b"0")[:9])
    return -time_ns if sign else time_ns


def _signed_sum(block: bytes, checksum: bytes) -> bool:
    """Return the sum of signed bytes, as some old tars have it."""
    total = sum(block) - 256 * sum(byte > 127 for byte in block) - sum(checksum) + 256
    return total == number(checksum)
