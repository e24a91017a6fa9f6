"""MessagePack, as much as fluentd's messages need. The process that sends has no site-packages.

github.com/msgpack/msgpack/blob/master/spec.md
"""

import struct
from collections.abc import Mapping, Sequence


class EventTime:
    """fluentd's extension type 0: seconds and nanoseconds."""

    def __init__(self, time_ns: int) -> None:
        self.data = struct.pack(">II", time_ns // 1_000_000_000 & 0xFFFFFFFF, time_ns % 10**9)


Value = str | int | EventTime | Sequence["Value"] | Mapping[str, "Value"]


def encode(value: Value) -> bytes:
    """Return *value*; numbers are not negative."""
    if isinstance(value, str):
        data = value.encode("utf-8", "replace")
        return _head(len(data), fixed=(0xA0, 32), sized=(0xD9, 0xDA, 0xDB)) + data
    if isinstance(value, int):
        return struct.pack(">BQ", 0xCF, value)
    if isinstance(value, EventTime):
        return b"\xd7\x00" + value.data
    if isinstance(value, Mapping):
        items = (encode(part) for pair in value.items() for part in pair)
        return _head(len(value), fixed=(0x80, 16), sized=(0, 0xDE, 0xDF)) + b"".join(items)
    return _head(len(value), fixed=(0x90, 16), sized=(0, 0xDC, 0xDD)) + b"".join(map(encode, value))


def _head(length: int, *, fixed: tuple[int, int], sized: tuple[int, int, int]) -> bytes:
    """Return type and length: in one byte if it fits, else in 1, 2 or 4 more."""
    first, limit = fixed
    if length < limit:
        return bytes([first | length])
    if length < 1 << 8 and sized[0]:
        return struct.pack(">BB", sized[0], length)
    if length < 1 << 16:
        return struct.pack(">BH", sized[1], length)
    return struct.pack(">BI", sized[2], length)
