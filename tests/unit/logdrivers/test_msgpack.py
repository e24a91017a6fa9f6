"""Our MessagePack, read by another's."""

import msgspec
import pytest

from orlop.logdrivers.msgpack import EventTime, Value, encode


@pytest.mark.parametrize(
    "value",
    [
        *("x" * length for length in (0, 1, 31, 32, 255, 256, 65535, 65536)),
        "é\0\n",
        *(0, 1, 127, 1_700_000_000, 2**64 - 1),
        *(["a"] * length for length in (0, 15, 16, 65536)),
        *({str(n): "v" for n in range(count)} for count in (0, 1, 15, 16, 70_000)),
        ["tag", 7, {"log": "hello", "nested": {"a": ["b"]}}, {}],
    ],
    ids=lambda value: f"{type(value).__name__}-{len(str(value))}",
)
def test_what_is_encoded_is_what_another_decodes(value: Value) -> None:
    assert msgspec.msgpack.decode(encode(value)) == value


def test_event_time_is_extension_0() -> None:
    found = msgspec.msgpack.decode(encode(EventTime(7_000_000_009)))
    assert (found.code, found.data) == (0, b"\0\0\0\x07\0\0\0\x09")
