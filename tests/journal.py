"""Entries of systemd's native journal protocol, read."""

import struct


def fields(entry: bytes) -> dict[str, bytes]:
    """Return the fields of an entry; systemd.io/JOURNAL_NATIVE_PROTOCOL."""
    found: dict[str, bytes] = {}
    while entry:
        line, _, rest = entry.partition(b"\n")
        name, separator, value = line.partition(b"=")
        if separator:
            found[name.decode()], entry = value, rest
            continue
        (length,) = struct.unpack_from("<Q", rest)
        found[name.decode()], entry = rest[8:][:length], rest[8 + length + 1 :]
    return found
